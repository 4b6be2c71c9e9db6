"""backup inspect: the truth about dumps that people already have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli.common import JsonOption, console, print_json, table
from atalaia.cli.progress import Meter
from atalaia.environment.units import show_size

if TYPE_CHECKING:
    from atalaia.backup.inspecting.findings import Finding, Report
    from atalaia.backup.inspecting.prove import Proof

_COLOURS = {
    "NOTE": "cyan",
    "WARNING": "yellow",
    "REPAIR": "yellow",
    "UNKNOWN": "red",
    "PARTIAL": "red",
    "FATAL": "red",
}
_LABELS = {
    "NOTE": "note",
    "WARNING": "warning",
    "REPAIR": "repair",
    "UNKNOWN": "unread",
    "PARTIAL": "lost",
    "FATAL": "fatal",
}
_LARGEST = 10


def add(group: typer.Typer) -> None:
    """Add the command to the group `backup`."""
    group.command("inspect")(inspect)


class _Progress:
    """Lines to standard error, bytes to a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __call__(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def advance(self, what: str, done: int, total: int) -> None:
        """Tell how far the reading is."""
        self._meter.update(done, total)


def inspect(
    dump: Annotated[
        Path, typer.Argument(help="A dump: .sql (also .gz .zst .xz .bz2 .lz4), -Fc, -Ft, or a -Fd folder.")
    ],
    repair: Annotated[
        Path | None, typer.Option("--repair", help="Write a repaired copy to this new file.", show_default=False)
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Restore what is (or would be) repaired into a temporary server.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell the truth about a dump: what is in it, what is wrong, how it restores.

    The dump itself is never changed. Exit code 1 when it does not restore as it is; with --repair, when the copy is
    not whole.
    """
    from atalaia.backup.inspecting import inspect as inspecting
    from atalaia.backup.inspecting import prove as proving
    from atalaia.backup.inspecting.findings import Effect

    with Meter(f"reading {dump.name}", "B") as meter:
        progress = _Progress(meter)
        inspected = inspecting.inspect(dump, progress)
    report = inspected.report
    if not as_json:
        _print(report)
        sys.stdout.flush()
    size = inspecting.write_repaired(inspected, repair) if repair else 0
    if repair and not as_json:
        print(f"\nrepaired copy: {repair} ({show_size(size)}, mode 0600)")
        for change in inspected.changes or ("nothing had to be changed",):
            print(f"  {change}")
    proof = proving.prove(inspected, progress) if prove else None
    if proof and not as_json:
        _print_proof(proof)
    if as_json:
        copy: dict[str, Any] = {"path": str(repair), "size": size, "changes": list(inspected.changes)}
        print_json(report.as_dict() | {"repaired": copy if repair else None, "proof": _proof(proof)})
    good = report.effect < (Effect.UNKNOWN if repair or prove else Effect.REPAIR)
    if not good or (proof and proof.problem):
        raise typer.Exit(1)


def _print(report: Report) -> None:
    out = console()
    contents = report.contents
    size = show_size(report.size) + (f", {show_size(report.raw_size)} of text" if report.raw_size else "")
    kind = " ".join(part for part in (report.form or "no dump", report.compression, report.scope) if part)
    out.print(f"{report.path}: {report.verdict}", markup=False, style="bold" if report.restorable else "bold red")
    made = f"PostgreSQL {report.server_version}" if report.server_version else "server version unknown"
    by = f", pg_dump {report.client_version}" if report.client_version else ""
    print(f"  {kind}, {size}; {made}{by}")
    if contents.tables or contents.databases:
        print(
            f"  {len(contents.databases)} databases, {len(contents.tables)} tables, {contents.rows} rows, "
            f"{contents.large_objects} large objects, {len(contents.roles)} roles"
        )
    for finding in report.findings:
        _print_finding(finding)
    if contents.tables:
        rows = [[t.database, t.name, str(t.rows), show_size(t.size)] for t in contents.tables[:_LARGEST]]
        out.print(table(("DATABASE", "LARGEST TABLES", "ROWS", "SIZE"), rows))
    if report.commands:
        print("to restore it:")
        for command in report.commands:
            print(f"  {command}")


def _print_finding(finding: Finding) -> None:
    name = finding.effect.name
    console().print(f"[{_COLOURS[name]}]{_LABELS[name]:>8}[/]", end=" ")
    console().print(finding.what, markup=False, soft_wrap=True)
    if finding.remedy:
        console().print(f"{'':>9}-> {finding.remedy}", markup=False, soft_wrap=True)


def _proof(proof: Proof | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    return {
        "passed": not proof.problem,
        "server_version": proof.server_version,
        "seconds": proof.seconds,
        "rows": proof.rows,
        "tables": proof.tables,
        "problem": proof.problem,
    }


def _print_proof(proof: Proof) -> None:
    came = f"{proof.rows} rows in {proof.tables} tables came back in {proof.seconds:.1f} s"
    if proof.problem:
        print(f"\nNOT proven: restored into PostgreSQL {proof.server_version}, {came}, but {proof.problem}")
    else:
        print(f"\nproven: restored into PostgreSQL {proof.server_version}, {came}, all alike")
