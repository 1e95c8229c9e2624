"""From the bytes of a page to those of its rows: what is quick is the same as what is plain."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from crawler.aws.answers import image_ids
from crawler.model import Verbatim
from crawler.rows import encode

values = st.text(st.characters()) | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F))
rows = st.lists(st.fixed_dictionaries({"imageDigest": values}, optional={"imageTag": values | st.none()}), max_size=5)


@given(rows, values, st.booleans())
@example([{"imageDigest": "\x7f", "imageTag": None}, {"imageDigest": ""}], "a", True)  # noqa: FBT003  (in the property's order)
@example([{"imageDigest": '"', "imageTag": "\\"}], "\ud800", False)  # noqa: FBT003  (in the property's order)
def test_a_page_is_the_same_as_row_by_row(
    listed: list[dict[str, str | None]],
    repository: str,
    ascii_only: bool,  # noqa: FBT001  (drawn)
) -> None:
    text = json.dumps({"imageIds": listed, "nextToken": "t"}, ensure_ascii=ascii_only)
    page = image_ids(text.encode("utf-8", "surrogatepass"))
    for sent in (page.items, list(page.items)):  # as it came, and as any other list
        lines = encode("1", "r", repository, sent).decode("ascii").split("\n")
        assert lines.pop() == ""
        assert [list(json.loads(line).items()) for line in lines] == [
            [("registryId", "1"), ("region", "r"), ("repositoryName", repository),
             ("imageDigest", row["imageDigest"]), ("imageTag", row.get("imageTag"))]
            for row in listed
        ]  # fmt: skip


def test_what_the_service_sends_is_verbatim() -> None:
    """Or all of this would be about nothing."""
    page = image_ids(b'{"imageIds":[{"imageDigest":"sha256:ab","imageTag":"v1.2_3-x"},{"imageDigest":"sha256:cd"}]}')
    assert isinstance(page.items, Verbatim)
    assert not isinstance(image_ids(b'{"imageIds":[{"imageDigest":"\\u0061"}]}').items, Verbatim)
    assert not isinstance(image_ids('{"imageIds":[{"imageDigest":"é"}]}'.encode()).items, Verbatim)
