import pytest

from crawler.accounts import Selection, select
from crawler.errors import UsageError
from crawler.model import Account

PAYMENTS = Account("123456789012", name="payments", tags=("type:prod", "path:/Prod"))
SEARCH = Account("210987654321", name="search", tags=("type:prod",))
COMMA = Account("333333333333", name="Acme, Inc. [eu]", tags=("type:test",))
NAMELESS = Account("444444444444")
ALL = (PAYMENTS, SEARCH, COMMA, NAMELESS)


@pytest.mark.parametrize(
    ("names", "tags", "expected"),
    [
        ([], [], ALL),
        (["payments"], [], (PAYMENTS,)),
        (["210987654321"], [], (SEARCH,)),
        (["search", "payments"], [], (PAYMENTS, SEARCH)),
        (["search, 123456789012"], [], (PAYMENTS, SEARCH)),
        (["pay*"], [], (PAYMENTS,)),
        (["*3", "21098765432?"], [], (SEARCH, COMMA)),
        (["Acme, Inc. [eu]"], [], (COMMA,)),
        (["*"], [], ALL),
        ([], ["type:prod"], (PAYMENTS, SEARCH)),
        ([], ["type:prod", "path:/Prod"], (PAYMENTS,)),
        (["*s*"], ["type:prod", "type:prod"], (PAYMENTS, SEARCH)),
    ],
)
def test_what_is_selected(names: list[str], tags: list[str], expected: tuple[Account, ...]) -> None:
    assert select(ALL, names, tags) == expected
    assert tuple(filter(Selection(names, tags).selects, ALL)) == expected


@pytest.mark.parametrize(
    ("names", "tags", "expected"),
    [
        (["paymets"], [], ["--account 'paymets': no account has this id or name; close are 'payments'"]),
        (["PAYMENTS"], [], ["--account 'PAYMENTS': no account has this id or name; close are 'payments'"]),
        (["23456789012"], [], ["--account '23456789012': no account has this id or name; close are '123456789012'"]),
        (["payments,zzz"], [], ["--account 'zzz': no account has this id or name"]),
        (["zzz*"], [], ["--account 'zzz*': no account has this id or name"]),
        ([","], [], ["--account ',': no account has this id or name"]),
        ([""], [], ["--account '': no account has this id or name"]),
        ([], ["type:prd"], ["--account-tag 'type:prd': no account has this tag; close are 'type:prod'"]),
        (["z"], ["y"], ["--account 'z': no account has this id or name", "--account-tag 'y': no account has this tag"]),
        (["search"], ["path:/Prod"], ["--account and --account-tag together fit no account; each alone fits some"]),
    ],
)  # fmt: skip
def test_selectors_that_fit_nothing(names: list[str], tags: list[str], expected: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        select(ALL, names, tags)
    assert str(caught.value).splitlines() == expected


def test_an_account_without_a_name_is_not_selected_by_an_empty_one() -> None:
    assert not Selection([""]).selects(NAMELESS)


def test_two_tags_that_no_account_has_both() -> None:
    with pytest.raises(UsageError, match="fit no account"):
        select(ALL, [], ["type:test", "path:/Prod"])
