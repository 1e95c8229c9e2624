"""Amazon ECR: DescribeRepositories, ListImages and DescribeImages; and the two that ECR Public has of these.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImages.html
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html
https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_DescribeImages.html
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from crawler.emulator.account import Account, Repositories, Repository
from crawler.emulator.bodies import altered
from crawler.emulator.call import Call
from crawler.emulator.details import CREATED_AT, PUBLIC_MEMBERS, detail
from crawler.emulator.faults import Rule
from crawler.emulator.images import ACTIVE, ANY, EVERYTHING, Filter, Image
from crawler.emulator.messages import Answer, Refusal, encode
from crawler.emulator.paging import Chain, Page, Position
from crawler.emulator.refusals import access_denied, repository_not_found
from crawler.emulator.world import World

_DEFAULT_RESULTS = 100
_INVALID = "InvalidParameterException"
_NO_REPOSITORIES: Repositories = {}
_PUBLIC, _PUBLIC_REGIONS = "ecr-public", ("us-east-1", "us-west-2")


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
    chain = Chain(_name(call), call.keys.account_id, call.account, call.region, "", "", size or _DEFAULT_RESULTS)
    position = world.tokens.position(chain, token, _INVALID)
    rule = world.fault(call, "", position.start // chain.size + 1, chain)
    page = world.tokens.page(chain, position, token, len(registry), rule.fault if rule else None)
    found = [_described(world, call, each) for each in islice(registry.values(), page.start, page.stop)]
    return altered(_answer(b"repositories", encode(found)[1:-1], page.next_token), rule)


def list_images(world: World, call: Call) -> Answer:
    """Image IDs of one repository: one element for each (digest, tag), and one for each untagged image."""
    asked = _listing(world, call)
    images = asked.repository.images
    page = asked.page(world, call, images.total(asked.wanted))
    elements = images.page(asked.wanted, page.start, page.stop - page.start)
    return altered(_answer(b"imageIds", elements, page.next_token), asked.rule)


def describe_images(world: World, call: Call) -> Answer:
    """Images of one repository with their tags and details, all in pages or some by digest or tag."""
    image_ids: list[Mapping[str, str]] | None = call.params.get("imageIds")
    if image_ids is not None and not call.params.keys().isdisjoint(("nextToken", "maxResults")):
        raise Refusal(_INVALID, "Invalid parameter: 'imageIds' excludes 'nextToken' and 'maxResults'")
    asked = _listing(world, call)
    repository = asked.repository
    if image_ids is not None:
        named = [_image(call, repository, image_id) for image_id in image_ids]
        found, next_token = list({image.digest: image for image in named}.values()), None
    else:
        page = asked.page(world, call, repository.images.number(asked.wanted))
        found, next_token = (
            repository.images.described(asked.wanted, page.start, page.stop - page.start),
            page.next_token,
        )
    elements = encode([_detail(call, repository, image) for image in found])[1:-1]
    return altered(_answer(b"imageDetails", elements, next_token), asked.rule)


class _Listing(NamedTuple):
    """A page of images that was asked for, and may be given."""

    repository: Repository
    wanted: Filter
    chain: Chain
    position: Position
    rule: Rule | None

    def page(self, world: World, call: Call, total: int) -> Page:
        """The page of so many elements."""
        token: str | None = call.params.get("nextToken")
        return world.tokens.page(self.chain, self.position, token, total, self.rule.fault if self.rule else None)


def _listing(world: World, call: Call) -> _Listing:
    params = call.params
    size: int = params.get("maxResults") or _DEFAULT_RESULTS
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
    chain = Chain(_name(call), call.keys.account_id, call.account, call.region, name, "/".join(wanted), size)
    position = world.tokens.position(chain, params.get("nextToken"), _INVALID)
    rule = world.fault(call, name, position.start // size + 1, chain)
    return _Listing(repository, wanted, chain, position, rule)


def _name(call: Call) -> str:
    """What tells the chains of two services apart, whose tokens are not for each other."""
    return call.action if call.service == _PUBLIC else call.operation


def _detail(call: Call, repository: Repository, image: Image) -> dict[str, object]:
    told = detail(call.account, repository.name, image)
    return {key: told[key] for key in PUBLIC_MEMBERS if key in told} if call.service == _PUBLIC else told


def _image(call: Call, repository: Repository, image_id: Mapping[str, str]) -> Image:
    digest, tag = image_id.get("imageDigest"), image_id.get("imageTag")
    images = repository.images.described(EVERYTHING, 0, len(repository.images))
    for image in images:
        if digest in (None, image.digest) and (tag is None or tag in image.tags):
            return image
    named = f"imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'"
    text = f"The image with imageId {{{named}}} does not exist within the repository with name '{repository.name}' in "
    raise Refusal("ImageNotFoundException", f"{text}the registry with id '{call.account}'")


def _answer(key: bytes, elements: bytes, next_token: str | None) -> Answer:
    # Tokens are base64 of the URL kind: nothing in them needs an escape.
    tail = b"]}" if next_token is None else b'],"nextToken":"%b"}' % next_token.encode()
    return Answer(b'{"%b":[%b%b' % (key, elements, tail))


def _registry(world: World, call: Call, repository: str | None = None) -> Repositories:
    """The registry's repositories in the region, if the caller may see them."""
    account = world.account(call.account)
    caller = world.account(call.keys.account_id)
    regions = _PUBLIC_REGIONS if call.service == _PUBLIC else world.estate.enabled(caller) if caller else ()
    enabled = caller is not None and call.region in regions
    if not enabled:
        # What a region says that is not enabled for the caller: it does not know the keys.
        raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
    if world.options.checks:
        _check_rights(account, caller, call, repository)
    if account is not None and call.service == _PUBLIC:
        return account.public
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
    if call.service == _PUBLIC:
        return {
            "repositoryArn": f"arn:aws:ecr-public::{call.account}:repository/{repository.name}",
            "registryId": call.account,
            "repositoryName": repository.name,
            "repositoryUri": f"public.ecr.aws/a{call.account}/{repository.name}",
            "createdAt": CREATED_AT,
        }
    partition, domain = world.estate.partition, "amazonaws.com.cn" if call.region.startswith("cn-") else "amazonaws.com"
    return {
        "repositoryArn": f"arn:{partition}:ecr:{call.region}:{call.account}:repository/{repository.name}",
        "registryId": call.account,
        "repositoryName": repository.name,
        "repositoryUri": f"{call.account}.dkr.ecr.{call.region}.{domain}/{repository.name}",
        "createdAt": CREATED_AT,
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
