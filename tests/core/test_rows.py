"""Lines of NDJSON that every reader can read, whatever is in a name; and the ledger's lines and sums."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawler.ledger import FAILURES_KEPT, Ledger, line
from crawler.model import COMPLETE, Account, Chain, ImageId, Outcome, Result, Target, Unit
from crawler.rows import encode, encode_details, to_line
from tests.fakes import run

KEYS = ["registryId", "region", "repositoryName", "imageDigest", "imageTag"]

#: Surrogates too: JSON can say them, UTF-8 cannot hold them.
names = st.text(st.characters())
nasty = pytest.mark.parametrize(
    "name", ["\u2028", "a\nb", "a\r\nb", "\ud800", "\udc80x", "\0", "\x7f", "é", "😀", '"\\']
)


@given(
    registry_id=names,
    region=names,
    repository=names,
    image_ids=st.lists(st.fixed_dictionaries({"imageDigest": names}, optional={"imageTag": names}), max_size=4),
)
@example("1", "\u2028", "\n", [{"imageDigest": "\ud800", "imageTag": "\0"}])
def test_any_text_comes_back_as_it_was(
    registry_id: str, region: str, repository: str, image_ids: list[ImageId]
) -> None:
    encoded = encode(registry_id, region, repository, image_ids)
    assert encoded.isascii()
    assert encoded.count(b"\n") == len(image_ids)
    assert encoded.endswith(b"\n") or not image_ids
    # str.splitlines() splits where Unicode has a line separator too: there is none left.
    for text, image_id in zip(encoded.decode("ascii").splitlines(), image_ids, strict=True):
        row = json.loads(text)
        assert list(row) == KEYS
        assert list(row.values()) == [
            registry_id, region, repository, image_id["imageDigest"], image_id.get("imageTag"),
        ]  # fmt: skip


@given(names, names, names, st.lists(st.fixed_dictionaries({"imageDigest": names, "imageTags": st.lists(names)})))
def test_details_of_any_text_come_back_as_they_were(
    registry_id: str, region: str, repository: str, images: list[dict[str, object]]
) -> None:
    encoded = encode_details(registry_id, region, repository, images)
    assert encoded.isascii()
    head = {"registryId": registry_id, "region": region, "repositoryName": repository}
    rows = [json.loads(text) for text in encoded.decode("ascii").splitlines()]
    assert [list(row.items()) for row in rows] == [[*head.items(), *image.items()] for image in images]


#: Values that look like what the encoder of whole pages counts and replaces.
traps = (
    st.sampled_from(
        [
            '{"imageDigest":',
            '"},{"imageDigest":"',
            ',"imageTag":',
            '":',
            "\\",
            '"',
            "null},{",
            "}\n",
            "[{",
            "v1",
            "\u2028",
        ]
    )
    | names
)
#: As no server should send them, too: keys in another order, missing, or more of them.
odd_image_ids = st.permutations(["imageDigest", "imageTag", "imageStatus"]).flatmap(
    lambda keys: st.fixed_dictionaries({}, optional={key: traps | st.none() for key in keys})
)


@given(names | traps, st.lists(odd_image_ids, max_size=5))
@example("a", [{"imageTag": "v1", "imageDigest": "d"}, {"imageDigest": "d", "imageTag": None}])
@example("a", [{"imageDigest": '{"imageDigest":', "imageTag": ',"imageTag":'}, {"imageDigest": "d"}])
@example("a", [{"imageDigest": "d", "imageTag": "t", "imageStatus": "s"}, {}])
def test_a_page_in_one_go_is_the_same_as_row_by_row(repository: str, image_ids: list[ImageId]) -> None:
    row_by_row = [
        to_line(
            {
                "registryId": "1",
                "region": "r",
                "repositoryName": repository,
                "imageDigest": image_id.get("imageDigest"),
                "imageTag": image_id.get("imageTag"),
            }
        )
        for image_id in image_ids
    ]
    assert encode("1", "r", repository, image_ids) == b"".join(row_by_row)


@nasty
def test_nasty_names_one_by_one(name: str) -> None:
    encoded = encode("1", "r", name, [{"imageDigest": name, "imageTag": name}])
    assert encoded.isascii()
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["repositoryName"] == json.loads(encoded)["imageTag"] == name
    if name.isprintable():
        assert orjson.loads(encoded)["repositoryName"] == name


def test_a_row_is_exactly_this() -> None:
    assert encode("123456789012", "eu-west-1", "team/app", [{"imageDigest": "sha256:ab", "imageTag": "v1"}]) == (
        b'{"registryId":"123456789012","region":"eu-west-1","repositoryName":"team/app",'
        b'"imageDigest":"sha256:ab","imageTag":"v1"}\n'
    )
    assert encode("1", "r", "a", [{"imageDigest": "d"}]).endswith(b',"imageTag":null}\n')
    assert encode("1", "r", "a", [{"imageDigest": "d", "imageTag": ""}]).endswith(b',"imageTag":""}\n')
    assert encode("1", "r", "a", []) == b""


@given(st.dictionaries(names, names | st.integers() | st.none() | st.booleans()))
def test_any_record_is_one_line_in_its_own_order(record: dict[str, object]) -> None:
    encoded = to_line(record)
    assert encoded.isascii()
    assert encoded.count(b"\n") == 1
    assert list(json.loads(encoded).items()) == list(record.items())


ACCOUNT = Account("1" * 12, name="payments")
TARGET = Target(ACCOUNT, "eu-west-1", "2" * 12)


def result(outcome: Outcome, repository: str | None = "a", **chain: int) -> Result:
    return Result(Unit.of(TARGET, repository), outcome, chain=Chain(**chain))


def test_a_line_of_the_ledger_is_exactly_this() -> None:
    chain = Chain(pages=3, items=2500, attempts=5, throttled=2, last_token_hash="ab", restarts=1)
    repository = Result(Unit.of(TARGET, "team/app"), Outcome.THROTTLED, "ThrottlingException", "slow", chain, 1.23456)
    assert line(repository) == (
        b'{"registryId":"222222222222","region":"eu-west-1","repositoryName":"team/app","outcome":"THROTTLED",'
        b'"code":"ThrottlingException","message":"slow","pages":3,"rows":2500,"repositories":null,"attempts":5,'
        b'"throttled":2,"restarts":1,"seconds":1.235,"lastTokenHash":"ab","accountId":"111111111111",'
        b'"accountName":"payments"}\n'
    )
    target = json.loads(line(replace(repository, unit=Unit.of(TARGET))))
    assert (target["repositoryName"], target["rows"], target["repositories"]) == (None, 0, 2500)
    organization = json.loads(line(Result(Unit(), Outcome.DENIED)))
    assert [organization[key] for key in ("registryId", "region", "repositoryName", "accountId")] == [None] * 4


@nasty
def test_a_ledger_line_is_one_line_whatever_the_service_says(name: str) -> None:
    encoded = line(Result(Unit.of(TARGET, name), Outcome.FAILED, name, name))
    assert encoded.isascii()
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["message"] == name


def test_sums_and_what_is_kept_of_them() -> None:
    async def main() -> Ledger:
        ledger = Ledger()
        for _ in range(FAILURES_KEPT + 5):
            await ledger.record(result(Outcome.DENIED, pages=1, items=2, attempts=3, throttled=1, restarts=1))
        for outcome in Outcome:
            await ledger.record(result(outcome, None, pages=1, items=7, attempts=1))
        return ledger

    ledger = run(main)
    totals = ledger.totals
    assert totals.repositories == Counter({Outcome.DENIED: FAILURES_KEPT + 5})
    assert totals.targets == Counter(dict.fromkeys(Outcome, 1))
    # What a target lists are repositories, not rows.
    assert (totals.rows, totals.pages, totals.requests) == (210, 112, 322)
    assert (totals.throttled, totals.restarts) == (105, 105)
    assert [failure.units for failure in ledger.failures] == [FAILURES_KEPT + 6, 1, 1]
    assert ledger.incomplete() == FAILURES_KEPT + 5 + len(set(Outcome) - COMPLETE)
    assert ledger.incomplete(frozenset({Outcome.DENIED})) == len(set(Outcome) - COMPLETE) - 1
    assert ledger.incomplete(frozenset(Outcome)) == 0
