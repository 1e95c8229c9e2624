"""The shape of accounts.yaml: c7n-org's accounts file, our settings under `crawler:`, and a form for an organization.

c7n-org's own schema: https://github.com/cloud-custodian/cloud-custodian/blob/main/tools/c7n_org/c7n_org/cli.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from crawler.accounts.fields import (
    AccountId,
    Duration,
    Excluded,
    ExternalId,
    Flag,
    Glob,
    HubRoles,
    ImageStatusName,
    MemberRole,
    OrganizationalUnit,
    Profile,
    Rate,
    Region,
    Roles,
    SessionName,
    SessionTags,
    TagStatusName,
    Text,
)

if TYPE_CHECKING:
    from pydantic_core.core_schema import WithDefaultSchema

_ARN = "arn:aws:iam::123456789012:role/inventory"

# An empty value (`name:`) counts as an absent one where None is allowed: everywhere but where a crawl with other keys
# than the user had in mind would follow. There the default is "" or [], which the file cannot say.


def _key(description: str, example: object, default: object = None) -> Any:  # noqa: ANN401 - as pydantic.Field
    return Field(default, description=description, examples=[example])


Regions = Annotated[
    list[Region] | None,
    _key(
        "Regions to crawl: names, globs such as `eu-*`, or `all` for every region that is enabled. Without it: all.",
        ["us-east-1", "eu-*"],
    ),
]


class _Closed(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Defaults(_Closed):
    """Settings of this crawler. Those of one account win over `vars: {crawler: …}`, key by key."""

    repositories: list[Glob] | None = _key("Globs of the repositories to list. Without it: all.", ["team-*"])
    exclude_repositories: list[Glob] | None = _key("Globs of the repositories to leave out.", ["*-cache"])
    tag_status: TagStatusName | None = _key("List any, only tagged, or only untagged images.", "untagged")
    image_status: ImageStatusName | None = _key("List any, only active, archived or activating images.", "active")
    public: Flag | None = _key("List the account's public registry (ECR Public) as well.", example=True)
    max_rps: Rate | None = _key("Ceiling in requests a second for each registry and region.", 20)
    session_name: SessionName | None = _key("Session name of assumed roles, for the audit trail.", "nightly-inventory")
    session_tags: SessionTags | None = _key("Session tags of assumed roles, for the audit trail.", {"team": "platform"})
    duration_seconds: Duration | None = _key(
        "How long the keys of an assumed role hold, 900 to 43200 s; for a chain of roles at most 3600.", 3600
    )


class Settings(Defaults):
    """Settings of this crawler for one account."""

    registries: list[AccountId] | None = _key(
        "Ids of further registries (of other accounts), read with this account's keys.", ["210987654321"]
    )


class GlobalVariables(BaseModel):
    """c7n-org's variables for all accounts. Only `crawler` is read here."""

    model_config = ConfigDict(extra="allow", frozen=True)

    crawler: Defaults | None = _key("Settings for all accounts.", {"max_rps": 20})


class Variables(BaseModel):
    """c7n-org's variables of one account. Only `crawler` is read here."""

    model_config = ConfigDict(extra="allow", frozen=True)

    crawler: Settings | None = _key("The same as `crawler` beside it, which wins.", {"max_rps": 20})


class AccountEntry(BaseModel):
    """An AWS account. With neither `role` nor `profile`, the credentials of the environment are used."""

    model_config = ConfigDict(extra="allow", frozen=True)

    account_id: AccountId = Field(description="The account's id, 12 digits.", examples=["123456789012"])
    role: Roles = _key(
        "Role to assume: an ARN, which may hold {account_id}, or a bare name in this account. A list is a chain, "
        "assumed one from the other. With a role, `profile` is not used, as in c7n-org.",
        _ARN,
        [],
    )
    profile: Profile = _key("Profile of the AWS CLI.", "production", "")
    external_id: ExternalId = _key("External id to assume the roles with.", "inventory-7f3a", "")
    name: Text | None = _key("Name to select the account by, and to see in reports.", "payments")
    display_name: Text | None = _key("Name for people; stands in for `name`.", "Payments (prod)")
    email: Text | None = _key("Owner's address.", "payments@example.com")
    org_id: Text | None = _key("Id of the organization.", "o-a1b2c3d4e5")
    regions: Regions
    tags: list[Text] | None = _key("Tags to select the account by, usually key:value.", ["type:prod", "path:/Prod"])
    vars: Variables | None = _key("c7n-org's variables.", {"charge_code": "xyz"})
    crawler: Settings | None = _key("Settings of this crawler.", {"repositories": ["team-*"]})


class OrganizationEntry(_Closed):
    """All active accounts of an organization, as AWS Organizations lists them when the crawl starts.

    The hub is the management account or a delegated administrator: the credentials of the environment or of `profile`,
    with `role` assumed from them if there is one. From the hub, `member_role` is assumed in every member.
    """

    member_role: MemberRole = Field(
        description="Role in every member: a bare name, or an ARN with {account_id}.",
        examples=["inventory"],
    )
    role: HubRoles = _key("Role of the hub: an ARN, or a list that is a chain.", _ARN, [])
    profile: Profile = _key("Profile of the AWS CLI to start from.", "management", "")
    external_id: ExternalId = _key("External id to assume the members' role with.", "inventory-7f3a", "")
    hub_external_id: ExternalId = _key("External id to assume the hub's role with.", "inventory-7f3a", "")
    include_ous: list[OrganizationalUnit] | None = _key(
        "OUs (ou-…) or the root (r-…) to crawl, with all below them. Without it: the whole organization.",
        ["ou-ab12-34cd56ef"],
    )
    exclude: list[Excluded] | None = _key("Account ids or globs of account names to leave out.", ["sandbox-*"])
    regions: Regions
    crawler: Defaults | None = _key("Settings of this crawler.", {"max_rps": 20})


class Outline(_Closed):
    """The top of the file alone, so that what is inside can be validated one account at a time."""

    accounts: Annotated[list[Any], Field(min_length=1)] = _key(
        "The accounts, one by one.", [{"account_id": "123456789012"}], []
    )
    organization: Any = _key("A whole organization instead.", {"member_role": "inventory"})
    vars: Any = _key("c7n-org's variables for all accounts.", {"crawler": {"max_rps": 20}})


class File(_Closed):
    """Which AWS accounts to crawl, and how: a superset of the accounts file of c7n-org (Cloud Custodian)."""

    model_config = ConfigDict(
        title="accounts.yaml",
        json_schema_extra={"oneOf": [{"required": ["accounts"]}, {"required": ["organization"]}]},
    )

    accounts: Annotated[list[AccountEntry], Field(min_length=1)] = _key(
        "The accounts, one by one.", [{"account_id": "123456789012"}], []
    )
    organization: OrganizationEntry = _key("A whole organization instead.", {"member_role": "inventory"})
    vars: GlobalVariables | None = _key("c7n-org's variables for all accounts.", {"crawler": {"max_rps": 20}})


class _Generator(GenerateJsonSchema):
    """Without defaults, which some editors would write into the file, and without titles that repeat the key."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's hook
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema of accounts.yaml (draft 2020-12), for editors.

    It accepts all that `load` accepts, also as an editor sees it, whose YAML takes an unquoted id for a number. It does
    not know every mistake: accounts given twice, for one, only `load` finds.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **File.model_json_schema(schema_generator=_Generator),
    }
