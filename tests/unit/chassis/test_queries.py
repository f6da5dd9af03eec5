"""Named SQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from aetheris_chassis.queries import load_queries


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    """A package with the SQL files that the test writes into the folder."""
    name = f"sql_{abs(hash(request.node.name))}"
    (tmp_path / name / "sql").mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / name


def write(package: Path, file: str, text: str) -> None:
    (package / "sql" / file).write_text(text)


def test_a_query_is_its_block_with_its_comments(package):
    write(package, "jobs.sql", "-- Jobs.\n\n-- name: load_job\n-- Why.\nSELECT 1;\n\n-- name: end_job\nSELECT 2;\n")
    queries = load_queries(package.name)

    assert queries.load_job == "-- name: load_job\n-- Why.\nSELECT 1;"
    assert queries.end_job == "-- name: end_job\nSELECT 2;"
    assert [name for name, _ in queries] == ["load_job", "end_job"]


def test_an_unknown_name_names_the_files_that_were_read(package):
    write(package, "jobs.sql", "-- name: load_job\nSELECT 1;")
    write(package, "runners.sql", "-- name: load_runner\nSELECT 1;")
    with pytest.raises(AttributeError, match=r"load_jobs.*jobs\.sql.*runners\.sql"):
        _ = load_queries(package.name).load_jobs


def test_the_snapshot_of_the_schema_holds_no_queries(package):
    write(package, "schema.sql", "CREATE TABLE t ();")

    assert list(load_queries(package.name)) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;\n-- name: late\nSELECT 2;", "before the first"),
        ("-- name: Two Words\nSELECT 1;", "no name for a query"),
        ("-- name: twice\nSELECT 1;\n-- name: twice\nSELECT 2;", "two queries named twice"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(package, text, complaint):
    write(package, "jobs.sql", text)
    with pytest.raises(ValueError, match=complaint):
        load_queries(package.name)
