-- Asks the emulator, its checks off, for what a file lists, in turn. benchmarks/ceiling.py writes the file, a request
-- a line: operation, access key, region and JSON body, with tabs between, and starts
--
--   wrk --threads 1 --connections 50 --duration 2s --script benchmarks/wrk/requests.lua URL -- FILE
--
-- The signature is made up: with checks off only the key's name and the region in it are read.
local requests, turn = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    local operation, key, region, body = line:match("^(%S+)\t(%S+)\t(%S+)\t(.+)$")
    local headers = {
      ["Content-Type"] = "application/x-amz-json-1.1",
      ["User-Agent"] = "wrk",
      ["X-Amz-Date"] = "20261123T000000Z",
      ["X-Amz-Target"] = "AmazonEC2ContainerRegistry_V20150921." .. operation,
      ["Authorization"] = "AWS4-HMAC-SHA256 Credential=" .. key .. "/20261123/" .. region .. "/ecr/aws4_request, "
        .. "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=" .. string.rep("0", 64),
    }
    requests[#requests + 1] = wrk.format("POST", "/", headers, body)
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
