"""Amazon ECR: DescribeRepositories and ListImages.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImages.html
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from crawler.emulator.account import Account, Repositories, Repository
from crawler.emulator.bodies import altered
from crawler.emulator.call import Call
from crawler.emulator.images import ACTIVE, ANY, Filter
from crawler.emulator.messages import Answer, Refusal, encode
from crawler.emulator.paging import Chain
from crawler.emulator.refusals import access_denied, repository_not_found
from crawler.emulator.world import World

_DEFAULT_RESULTS = 100
_INVALID = "InvalidParameterException"
_NO_REPOSITORIES: Repositories = {}
#: 2024-01-01, when every repository here was made; seconds since 1970.
_CREATED_AT = 1_704_067_200


def describe_repositories(world: World, call: Call) -> Answer:
    """Repositories of a registry, all in pages or some by name."""
    names: list[str] | None = call.params.get("repositoryNames")
    size: int | None = call.params.get("maxResults")
    token: str | None = call.params.get("nextToken")
    registry = _registry(world, call)
    world.throttle(call)
    _check_age(world, call)
    if names is not None:
        if size is not None or token is not None:
            raise Refusal(_INVALID, "Invalid parameter: 'repositoryNames' excludes 'nextToken' and 'maxResults'")
        rule = world.fault(call, "", 1)
        found = [_described(world, call, _repository(registry, call, name)) for name in names]
        return altered(Answer(encode({"repositories": found})), rule)
    chain = Chain(call.operation, call.keys.account_id, call.account, call.region, "", "", size or _DEFAULT_RESULTS)
    position = world.tokens.position(chain, token, _INVALID)
    rule = world.fault(call, "", position.start // chain.size + 1, chain)
    page = world.tokens.page(chain, position, token, len(registry), rule.fault if rule else None)
    found = [_described(world, call, each) for each in islice(registry.values(), page.start, page.stop)]
    return altered(_answer(b"repositories", encode(found)[1:-1], page.next_token), rule)


def list_images(world: World, call: Call) -> Answer:
    """Image IDs of one repository: one element for each (digest, tag), and one for each untagged image."""
    params = call.params
    size: int = params.get("maxResults") or _DEFAULT_RESULTS
    token: str | None = params.get("nextToken")
    asked: Mapping[str, str] = params.get("filter") or {}
    name: str = params.get("repositoryName", "")
    registry = _registry(world, call, name)
    world.throttle(call)
    _check_age(world, call)
    repository = _repository(registry, call, name)
    if repository.denied:
        raise access_denied(call, name, "with an explicit deny in a resource-based policy")
    if world.deleted and (call.account, call.region, name) in world.deleted:
        raise repository_not_found(call, name)
    # Without imageStatus AWS lists active images only: archived ones are missing in silence.
    wanted = Filter(asked.get("tagStatus") or ANY, asked.get("imageStatus") or ACTIVE)
    chain = Chain(call.operation, call.keys.account_id, call.account, call.region, name, "/".join(wanted), size)
    position = world.tokens.position(chain, token, _INVALID)
    rule = world.fault(call, name, position.start // size + 1, chain)
    page = world.tokens.page(chain, position, token, repository.images.total(wanted), rule.fault if rule else None)
    elements = repository.images.page(wanted, page.start, page.stop - page.start)
    return altered(_answer(b"imageIds", elements, page.next_token), rule)


def _answer(key: bytes, elements: bytes, next_token: str | None) -> Answer:
    # Tokens are base64 of the URL kind: nothing in them needs an escape.
    tail = b"]}" if next_token is None else b'],"nextToken":"%b"}' % next_token.encode()
    return Answer(b'{"%b":[%b%b' % (key, elements, tail))


def _registry(world: World, call: Call, repository: str | None = None) -> Repositories:
    """The registry's repositories in the region, if the caller may see them."""
    account = world.account(call.account)
    caller = world.account(call.keys.account_id)
    enabled = call.region in world.estate.enabled(caller) if caller else False
    if not enabled:
        # What a region says that is not enabled for the caller: it does not know the keys.
        raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
    if world.options.checks:
        _check_rights(account, caller, call, repository)
    if account is None or call.region not in world.estate.enabled(account):
        return _NO_REPOSITORIES
    return account.repositories.get(call.region, _NO_REPOSITORIES)


def _check_rights(account: Account | None, caller: Account | None, call: Call, repository: str | None) -> None:
    if caller is not None and call.action in caller.deny:
        raise access_denied(call, repository or "")
    if account is caller:
        return
    if account is None or caller is None or not account.lets_list(caller.id, repository):
        raise access_denied(call, repository or "", "because no resource-based policy allows the {action} action")


def _repository(registry: Repositories, call: Call, name: str) -> Repository:
    repository = registry.get(name)
    if repository is None:
        raise repository_not_found(call, name)
    return repository


def _described(world: World, call: Call, repository: Repository) -> dict[str, object]:
    partition, domain = world.estate.partition, "amazonaws.com.cn" if call.region.startswith("cn-") else "amazonaws.com"
    return {
        "repositoryArn": f"arn:{partition}:ecr:{call.region}:{call.account}:repository/{repository.name}",
        "registryId": call.account,
        "repositoryName": repository.name,
        "repositoryUri": f"{call.account}.dkr.ecr.{call.region}.{domain}/{repository.name}",
        "createdAt": _CREATED_AT,
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": False},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    }


def _check_age(world: World, call: Call) -> None:
    """What the API of 2016 did not know yet, if the server is to be that old."""
    if world.options.dialect != "2016":
        return
    asked: Mapping[str, str] = call.params.get("filter") or {}
    if (call.params.get("maxResults") or 0) > _DEFAULT_RESULTS:
        constraint = f"Member must have value less than or equal to {_DEFAULT_RESULTS}"
        raise Refusal(_INVALID, f"Invalid parameter at 'maxResults' failed to satisfy constraint: '{constraint}'")
    if "imageStatus" in asked:
        raise Refusal(_INVALID, "Invalid parameter at 'filter.imageStatus': unknown member")
    if asked.get("tagStatus") == ANY:
        constraint = "Member must satisfy enum value set: [TAGGED, UNTAGGED]"
        raise Refusal(_INVALID, f"Invalid parameter at 'filter.tagStatus' failed to satisfy constraint: '{constraint}'")
