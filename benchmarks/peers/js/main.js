// AWS SDK for JavaScript v3: one client, the paginators it ships, 50 repositories in flight.
import { writeSync } from "node:fs";
import { ECRClient, paginateDescribeRepositories, paginateListImages } from "@aws-sdk/client-ecr";

const client = new ECRClient({ requestHandler: { httpAgent: { keepAlive: true, maxSockets: 50 } } });
const region = await client.config.region();
const paging = { client, pageSize: 1000 };

function write(text) {
  let rest = Buffer.from(text);
  while (rest.length) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

async function* repositories() {
  for await (const page of paginateDescribeRepositories(paging, {})) yield* page.repositories;
}

async function listImages(names) {
  for await (const { registryId, repositoryName } of names) {
    for await (const page of paginateListImages(paging, { repositoryName })) {
      let lines = "";
      for (const { imageDigest, imageTag = null } of page.imageIds)
        lines += JSON.stringify({ registryId, region, repositoryName, imageDigest, imageTag }) + "\n";
      if (lines) write(lines);
    }
  }
}

// An asynchronous generator answers its callers in turn: fifty may take from the same one.
const names = repositories();
await Promise.all(Array.from({ length: 50 }, () => listImages({ [Symbol.asyncIterator]: () => ({ next: () => names.next() }) })));
