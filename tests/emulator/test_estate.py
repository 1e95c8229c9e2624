from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler import emulator
from crawler.emulator import MIXED, Account, Estate, Image, Listed, Mix, Repository, Series
from crawler.emulator.images import Filter

EXAMPLE = Path(emulator.__file__).with_name("example.yaml")
FILTERS = st.builds(
    Filter, st.sampled_from(["ANY", "TAGGED", "UNTAGGED"]), st.sampled_from(["ANY", "ACTIVE", "ARCHIVED"])
)
MIXES = st.builds(Mix, st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 3500), MIXES, FILTERS, st.integers(1, 1000), st.data())
def test_pages_of_a_series_are_its_rows(count: int, mix: Mix, wanted: Filter, size: int, data: st.DataObject) -> None:
    series = Series("key", count, mix)
    truth = list(series.rows(wanted))
    assert series.total(wanted) == len(truth)
    start = data.draw(st.integers(0, len(truth)))
    page = json.loads(b"[" + series.page(wanted, start, size) + b"]")
    assert [(i["imageDigest"], i.get("imageTag")) for i in page] == truth[start : start + size]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 3500), MIXES, FILTERS, st.integers(1, 1000), st.data())
def test_images_of_a_series_are_those_of_its_rows(
    count: int, mix: Mix, wanted: Filter, size: int, data: st.DataObject
) -> None:
    series = Series("key", count, mix)
    truth = list(dict.fromkeys(digest for digest, _ in series.rows(wanted)))
    assert series.number(wanted) == len(truth)
    start = data.draw(st.integers(0, len(truth)))
    images = series.described(wanted, start, size)
    assert [image.digest for image in images] == truth[start : start + size]
    listed = Listed(tuple(images))
    assert listed.number(wanted) == len(images)
    tags = {(image.digest, tag) for image in listed.described(wanted, 0, size) for tag in image.tags or [None]}
    assert tags <= set(series.rows(wanted))


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=())))
def test_listed_images_may_have_any_tag(tag: str) -> None:
    page = json.loads(b"[" + Listed((Image("sha256:1", (tag,)),)).page(Filter(), 0, 10) + b"]")
    assert page == [{"imageDigest": "sha256:1", "imageTag": tag}]


def test_the_seed_decides() -> None:
    one = Estate.generate(7)
    assert list(one.rows()) == list(Estate.generate(7).rows())
    assert list(one.rows()) != list(Estate.generate(8).rows())
    assert len(one.accounts) == 26


def test_generated_estates_are_skewed() -> None:
    estate = Estate.generate(1, accounts=40)
    targets = list(estate.registries())
    sizes = sorted((len(r.images) for _, _, names in targets for r in names.values()), reverse=True)
    assert sum(1 for _, _, names in targets if not names) > len(targets) / 2
    assert sizes[0] == 5000
    assert sum(sizes[:5]) > sum(sizes) / 4
    assert {len(row.digest) for row in estate.rows()} == {71}
    kinds = {(row.tag is None) for row in estate.rows()}, set(estate.rows(image_status="ARCHIVED")) != set()
    assert kinds == ({True, False}, True)
    assert len(set(estate.rows())) == estate.total()


def test_uniform_estates() -> None:
    estate = Estate.uniform(repositories=2, images=3, accounts=5, regions=("us-east-1", "eu-west-1"), filled=0.3)
    assert sum(1 for _, _, names in estate.registries() if names) == 3
    assert estate.total() == 18 == len(set(estate.rows()))


def test_huge_estates_cost_little() -> None:
    estate = Estate.uniform(repositories=100, images=100_000, mix=MIXED)
    assert estate.total() > 10_000_000
    estate = Estate.uniform(
        repositories=1, images=1, accounts=1000, regions=tuple(f"r-{n}" for n in range(10)), filled=0.1
    )
    assert sum(1 for _ in estate.registries()) == 10_010
    assert estate.total() == 1000


def test_example_file() -> None:
    estate = Estate.load(EXAMPLE)
    assert estate.accounts["000000000002"].external_id == "search-secret-42"
    assert estate.enabled(estate.accounts["000000000002"]) == ("us-east-1", "eu-west-1")
    assert estate.accounts["000000000003"].repositories["eu-west-1"]["identity/vault"].denied
    base = [row[3:] for row in estate.rows() if row.repository == "shared/base"]
    assert [tag for _, tag in base] == ["latest", "1.0", "stable", "0.9", None]
    assert len({digest for digest, _ in base}) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("accounts: [{id: 12}]", r"accounts\[0\].id: expected an account id of twelve digits, not '12'"),
        ("accounts: [{id: 000000000001, nmae: x}]", r"accounts\[0\].nmae: unknown key; known are .*name"),
        ("accounts: [{id: 000000000001, state: ASLEEP}]", r"accounts\[0\].state: expected one of ACTIVE"),
        ("accounts: [{id: 000000000001, deny_role: yes}]", r"deny_role: expected one of true, false"),
        ("accounts: {}", "accounts: expected a list"),
        ("account: []", "account: unknown key"),
        ("accounts: [{id: 000000000001, repositories: {us-east-1: {a/b: many}}}]", "a/b: expected a number"),
        ("a: [", "not YAML"),
        ("- a", "the file: expected a mapping"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "estate.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"estate.yaml: .*{says}"):
        Estate.load(file)


def test_accounts_files() -> None:
    estate = Estate.load(EXAMPLE)
    listed = yaml.safe_load(estate.accounts_yaml("reader"))["accounts"]
    assert [each["account_id"] for each in listed] == [a.id for a in estate.accounts.values() if a.state == "ACTIVE"]
    assert listed[1] == {
        "account_id": "000000000002", "name": "search", "role": "reader", "external_id": "search-secret-42",
        "regions": ["us-east-1", "eu-west-1"],
    }  # fmt: skip
    assert yaml.safe_load(estate.organization_yaml()) == {
        "organization": {"member_role": "inventory", "regions": ["us-east-1", "eu-west-1", "ap-southeast-2"]}
    }


def test_partitions_and_regions_follow_from_the_accounts() -> None:
    china = Estate([Account("000000000001", repositories={"cn-north-1": {"a/b": Repository("a/b", Series("k", 1))}})])
    assert (china.partition, china.regions) == ("aws-cn", ("cn-north-1",))
    assert "26 accounts" in repr(Estate.generate(1))
