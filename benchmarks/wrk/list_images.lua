-- Small requests for the emulator with its checks off: ListImages of many repositories, and DescribeRepositories of
-- an account without any, in turn. Start it through benchmarks/emulator_ceiling.py, or by hand:
--
--   taskset -c 1 wrk --threads 1 --connections 50 --duration 10s --script benchmarks/wrk/list_images.lua URL
--
-- The signature is made up: with checks off only the key's name and the region in it are read.
local headers = {
  ["Content-Type"] = "application/x-amz-json-1.1",
  ["User-Agent"] = "wrk",
  ["X-Amz-Date"] = "20261123T000000Z",
  ["Authorization"] = "AWS4-HMAC-SHA256 Credential=ASIA0000000000010001/20261123/us-east-1/ecr/aws4_request, "
    .. "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=" .. string.rep("0", 64),
}
local api = "AmazonEC2ContainerRegistry_V20150921."
local requests, turn = {}, 0

function init(args)
  for number = 0, 499 do
    local name = string.format("team-%02d/service-%05d", number % 97, number)
    headers["X-Amz-Target"] = api .. "ListImages"
    local body = '{"repositoryName":"' .. name .. '","maxResults":1000,"filter":{"imageStatus":"ANY"}}'
    requests[#requests + 1] = wrk.format("POST", "/", headers, body)
    headers["X-Amz-Target"] = api .. "DescribeRepositories"
    requests[#requests + 1] = wrk.format("POST", "/", headers, '{"registryId":"000000000002","maxResults":1000}')
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

local wrong = 0

function response(status)
  if status ~= 200 then
    wrong = wrong + 1
    if wrong == 1 then io.stderr:write("an answer with status " .. status .. "\n") end
  end
end
