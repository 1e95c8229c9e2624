"""The JSON Schema that editors get: it accepts what `load` accepts, and knows the common mistakes."""

import json
from typing import Any

import jsonschema
import pytest
import yaml

from crawler.accounts import json_schema, load
from crawler.errors import UsageError

SCHEMA = json_schema()

EVERY_SETTING = """\
accounts:
- account_id: '123456789012'
  crawler:
    registries: ['210987654321', 310987654321]
    repositories: [a-*]
    exclude_repositories: ['*-b']
    public: true
    tag_status: UnTagged
    image_status: ANY
    max_rps: 2.5
    session_name: ab
    session_tags: {a: 1, b: yes, c: ''}
    duration_seconds: 3600
...
"""

ORGANIZATION = """\
organization:
  member_role: arn:aws-cn:iam::{account_id}:role/x
  role: ['arn:aws:iam::123456789012:role/hub']
  profile: p
  external_id: abc
  hub_external_id: abc
  include_ous: [ou-ab12-34cd56ef, r-ab12]
  exclude: ['sandbox-*', 123456789012]
  regions: [eu-west-1]
  crawler: {tag_status: tagged}
"""

GOOD = [
    "accounts: [{account_id: '123456789012'}]",
    "accounts: [{account_id: 123456789012, name: 12, tags: [2024, yes], external_id: 123456, owner: [x]}]",
    "accounts: [{account_id: 012345670123, role: inventory, regions: [], vars: {charge_code: xyz}}]\nvars: {a: b}",
    "accounts: [{account_id: '123456789012', role: ['arn:aws:iam::{account_id}:role/a/b', b], regions: [all]}]",
    "accounts: [{account_id: '123456789012', profile: p, regions: ['us-east-1, us-west-2', 'eu-*', 'us-[ew]*']}]",
    "accounts: [{account_id: '123456789012', crawler: {max_rps: '20', duration_seconds: '900', tag_status: any}}]",
    "accounts: [{account_id: '123456789012', vars: {crawler: {max_rps: 1}}}]\nvars: {crawler: {max_rps: 2}}",
    "organization: {member_role: inventory, crawler: {public: 'FALSE'}}",
    EVERY_SETTING,
    ORGANIZATION,
]

#: Empty where that is the same as absent.
EMPTY = "accounts: [{account_id: '123456789012', name: , email: ~, regions: , tags: , vars: , crawler: }]\nvars: "

BAD = [
    "{}",
    "[]",
    "accounts: []",
    "accounts: ~",
    "accounts: [x]",
    "accounts: [{name: x}]",
    "accounts: [{account_id: '1234'}]",
    "accounts: [{account_id: 1234567890123}]",
    "accounts: [{account_id: [x]}]",
    "accounts: [{account_id: '123456789012', role: ''}]",
    "accounts: [{account_id: '123456789012', role: }]",
    "accounts: [{account_id: '123456789012', role: []}]",
    "accounts: [{account_id: '123456789012', role: a b}]",
    "accounts: [{account_id: '123456789012', profile: }]",
    "accounts: [{account_id: '123456789012', external_id: x}]",
    "accounts: [{account_id: '123456789012', regions: us-east-1}]",
    "accounts: [{account_id: '123456789012', regions: [NORTH]}]",
    "accounts: [{account_id: '123456789012', tags: a}]",
    "accounts: [{account_id: '123456789012', vars: []}]",
    "accounts: [{account_id: '123456789012', crawler: {max_rsp: 1}}]",
    "accounts: [{account_id: '123456789012', crawler: {max_rps: 0}}]",
    "accounts: [{account_id: '123456789012', crawler: {tag_status: foo}}]",
    "accounts: [{account_id: '123456789012', crawler: {duration_seconds: 60}}]",
    "accounts: [{account_id: '123456789012', crawler: {session_tags: {a: }}}]",
    "accounts: [{account_id: '123456789012'}]\nother: x",
    "accounts: [{account_id: '123456789012'}]\nvars: {crawler: {registries: ['123456789012']}}",
    "accounts: [{account_id: '123456789012'}]\norganization: {member_role: x}",
    "organization: {}",
    "organization: {member_role: x, tags: []}",
    "organization: {member_role: x, role: hub}",
    "organization: {member_role: x, crawler: {registries: ['123456789012']}}",
    "organization: {member_role: x, include_ous: [Prod]}",
]


def valid(document: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(document))


@pytest.mark.parametrize("text", [*GOOD, EMPTY])
def test_what_load_accepts_is_valid(text: str) -> None:
    load("f", text.encode())
    assert valid(yaml.safe_load(text))


@pytest.mark.parametrize("text", GOOD)
def test_what_load_accepts_is_valid_with_every_scalar_as_text(text: str) -> None:
    assert valid(yaml.load(text, Loader=yaml.BaseLoader))  # noqa: S506 - makes strings only


@pytest.mark.parametrize("text", BAD)
def test_common_mistakes_are_invalid(text: str) -> None:
    with pytest.raises(UsageError):
        load("f", text.encode())
    assert not valid(yaml.safe_load(text))


def test_it_is_a_schema_of_its_draft() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["title"] == "accounts.yaml"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_key_has_a_description_and_an_example_that_is_valid() -> None:
    models: dict[str, Any] = {"": SCHEMA, **SCHEMA["$defs"]}
    for name, model in models.items():
        assert model["description"], name
        for key, part in model["properties"].items():
            assert part["description"], key
            assert part["examples"], key
            assert "default" not in part, key
            validator = jsonschema.Draft202012Validator({**part, "$defs": SCHEMA["$defs"]})
            assert all(map(validator.is_valid, part["examples"])), key
