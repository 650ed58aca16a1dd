"""ledger.toml: what its reader makes of it, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from migrate.errors import ConfigError
from migrate.ledger import Ledger, load_ledger
from migrate.model import Target
from migrate.packs import pack_dir, pack_names

GOOD: dict[str, Any] = {
    "role": {
        "account": {"table": "a.acct", "id": "id", "balance": "bal", "currency": "ccy", "increases": "C"},
        "entry": {"table": "a.leg", "id": "id", "account": "acct", "voucher": "v", "direction": "dc", "amount": "amt",
                  "currency": "ccy", "time": "at"},
    }
}  # fmt: skip


def write(path: Path, text: str) -> Path:
    file = path / "ledger.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("pack", pack_names())
def test_every_pack_has_a_valid_ledger(pack: str) -> None:
    ledger = load_ledger(pack)
    assert "debit_equals_credit" in ledger.built_in
    assert load_ledger(pack_dir(pack) / "ledger.toml") == ledger


def test_payment_gives_controls_and_invariants_from_its_roles() -> None:
    ledger = load_ledger("payment")
    assert ledger.role.entry.target == Target("payment", "account_entry")
    assert {str(c.target): c.sums for c in ledger.controls} == {
        "payment.account": ("balance", "opening_balance"),
        "payment.account_entry": ("amount",),
        "payment.voucher": ("amount",),
        "payment.payment_order": ("amount",),
        "payment.refund": ("amount",),
    }
    assert set(ledger.built_in) == {
        "debit_equals_credit",
        "trial_balance",
        "balance_equals_opening_plus_entries",
        "no_orphan_entry",
        "balance_continuity",
        "idempotency_unique",
    }


def test_what_the_roles_do_not_name_is_not_checked() -> None:
    ledger = Ledger.model_validate(GOOD)
    assert "balance_continuity" not in ledger.built_in and "idempotency_unique" not in ledger.built_in
    assert [c.table for c in ledger.controls] == ["a.acct", "a.leg"]


def test_severity_of_a_built_in_invariant_can_be_lowered() -> None:
    ledger = Ledger.model_validate({**GOOD, "severity": {"no_orphan_entry": "warning"}})
    assert ledger.built_in["no_orphan_entry"] == "warning" and ledger.built_in["debit_equals_credit"] == "error"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('id = "id"\nbalanse = "x"', "role.account.balanse: unknown key"),
        ('id = 7', "role.account.id: "),
        ('', "role.account.id: missing"),
        ('id = "id"\nnature = "n"', "role.account: give one of increases"),
        ('id = "id"\n[[invariant]]\nname = "x"\nsql = "DELETE FROM a.leg"', "invariant[0].sql: "),
        ('id = "id"\n[[invariant]]\nname = "no_orphan_entry"\nsql = "SELECT 1"', "no_orphan_entry stands twice"),
        ('id = "id"\n[[control]]\ntable = "leg"\nsums = ["amt"]', "control[0].table: "),
        ('id = "id"\n[[role.clearing]]\ntable = "a.c"\nid = "id"\nkey = ["k"]\namount = "amt"\nat_rest = true',
         "role.clearing[0]: at_rest needs in_transit_s"),
        ('id = "id"\n[severity]\nnothing = "error"', "severity.nothing"),
    ],
)  # fmt: skip
def test_errors_name_file_and_key(tmp_path: Path, change: str, words: str) -> None:
    entry = "\n".join(f'{k} = "{v}"' for k, v in GOOD["role"]["entry"].items())
    file = write(
        tmp_path,
        f'[role.entry]\n{entry}\n[role.account]\ntable = "a.acct"\nbalance = "bal"\ncurrency = "ccy"\n'
        f'increases = "C"\n{change}\n',
    )
    with pytest.raises(ConfigError, match=r"ledger\.toml: ") as error:
        load_ledger(file)
    assert words in str(error.value)


def test_an_unknown_direction_or_pack_is_an_error(tmp_path: Path) -> None:
    wrong = {"role": {**GOOD["role"], "account": {**GOOD["role"]["account"], "increases": "X"}}}
    with pytest.raises(ValueError, match=r"role\.account\.increases"):
        Ledger.model_validate(wrong)
    with pytest.raises(ConfigError, match="unknown pack"):
        load_ledger("no-such-pack")
    with pytest.raises(ConfigError, match="no such file"):
        load_ledger(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"ledger\.toml: "):
        load_ledger(write(tmp_path, "= broken"))
