"""Grants as JSON, as a CloudFormation template for a StackSet, and as Terraform."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from crawler.policies.needs import HUB, Document, Grant

_POLICY_NAME = "ecr-inventory"

_STACK_SET = """\
# {who}
# In all accounts at once, from the management account or a delegated administrator:
#   aws cloudformation create-stack-set --stack-set-name ecr-inventory --template-body file://FILE \\
#     --permission-model SERVICE_MANAGED --auto-deployment Enabled=true,RetainStacksOnAccountRemoval=false \\
#     --capabilities CAPABILITY_NAMED_IAM{parameters}
#   aws cloudformation create-stack-instances --stack-set-name ecr-inventory --regions us-east-1 \\
#     --deployment-targets OrganizationalUnitIds=r-ROOT
# IAM has no regions, so one is enough. A StackSet leaves the management account itself out: deploy it there by hand.
"""
_STACK = """\
# {who}: attach this policy to it.
"""

_MODULE = """\
# {who}
"""

_ROLE = """\
resource "aws_iam_role" "inventory" {{
  name               = {name}
  path               = {path}
  assume_role_policy = jsonencode({trust})
}}

resource "aws_iam_role_policy" "inventory" {{
  name   = {policy_name}
  role   = aws_iam_role.inventory.id
  policy = jsonencode({policy})
}}
"""
_MANAGED = """\
resource "aws_iam_policy" "inventory" {{
  name   = {policy_name}
  policy = jsonencode({policy})
}}
"""
_VARIABLE = """\
variable "hub" {
  description = "ARN of the role that the crawler runs as"
  type        = string
}

"""


def as_json(grants: Sequence[Grant]) -> str:
    """All grants, as one JSON array."""
    return json.dumps([grant.as_json() for grant in grants], indent=2) + "\n"


def as_cloudformation(grants: Sequence[Grant]) -> str:
    """The template of one grant: a role with its policy, or the policy alone for who is there already."""
    (grant,) = grants
    resource: Document = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": grant.policy}}
    template: Document = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Reads ECR for the inventory crawler",
    }
    if grant.role is None:
        return _STACK.format(who=grant.who) + _yaml(template | {"Resources": {"InventoryPolicy": resource}})
    asks = _trusts_placeholder(grant)
    if asks:
        template["Parameters"] = {"Hub": {"Type": "String", "Description": "ARN of the role that the crawler runs as"}}
    path, name = _path_and_name(grant.role)
    resource = {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": name,
            "Path": path,
            "AssumeRolePolicyDocument": _replaced(grant.trust, {"Ref": "Hub"}),
            "Policies": [{"PolicyName": _POLICY_NAME, "PolicyDocument": grant.policy}],
        },
    }
    parameters = " \\\n#     --parameters ParameterKey=Hub,ParameterValue=ARN" if asks else ""
    return _STACK_SET.format(who=grant.who, parameters=parameters) + _yaml(
        template | {"Resources": {"InventoryRole": resource}}
    )


def as_terraform(grants: Sequence[Grant]) -> str:
    """A module for one grant, to be applied with a provider for each account."""
    (grant,) = grants
    head = _MODULE.format(who=grant.who)
    policy_name, policy = json.dumps(_POLICY_NAME), _object(grant.policy)
    if grant.role is None:
        return head + _MANAGED.format(policy_name=policy_name, policy=policy)
    path, name = _path_and_name(grant.role)
    role = _ROLE.format(
        name=json.dumps(name),
        path=json.dumps(path),
        trust=_object(grant.trust).replace(json.dumps(HUB), "var.hub"),
        policy_name=policy_name,
        policy=policy,
    )
    return head + _VARIABLE * _trusts_placeholder(grant) + role


#: Formats by name. All but JSON hold one grant.
FORMATS: Mapping[str, Callable[[Sequence[Grant]], str]] = {
    "json": as_json,
    "cloudformation": as_cloudformation,
    "terraform": as_terraform,
}


class _Dumper(yaml.SafeDumper):
    """Without anchors: where a document is shared, it is written twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's hook
        return True


def _yaml(document: Document) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)


def _object(document: object) -> str:
    # A JSON object is an expression of HCL too, but for templates, of which policies of ours have none.
    return json.dumps(document, indent=2).replace("\n", "\n  ")


def _path_and_name(role: str) -> tuple[str, str]:
    path, _, name = role.rpartition("/")
    return (f"/{path}/" if path else "/"), name


def _trusts_placeholder(grant: Grant) -> bool:
    return HUB in json.dumps(grant.trust)


def _replaced(document: Any, reference: object) -> Any:  # noqa: ANN401 - as JSON has it
    """The document with a reference wherever it names the hub that nobody has named."""
    if document == HUB:
        return reference
    if isinstance(document, dict):
        return {key: _replaced(value, reference) for key, value in document.items()}  # pyright: ignore[reportUnknownVariableType]  # isinstance tells no more
    if isinstance(document, list):
        return [_replaced(value, reference) for value in document]  # pyright: ignore[reportUnknownVariableType]  # isinstance tells no more
    return document
