from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine import digests

names = st.text(st.characters(codec="utf-8", exclude_characters="\n\\"), min_size=1)


def test_a_file_is_read_in_chunks_that_are_reported(tmp_path: Path) -> None:
    content = b"x" * (digests.CHUNK_BYTES + 1)
    (tmp_path / "file").write_bytes(content)
    sizes: list[int] = []

    found = digests.of_file(tmp_path / "file", sizes.append)

    assert found == hashlib.sha256(content).hexdigest()
    assert sizes == [digests.CHUNK_BYTES, 1]


def test_progress_over_many_files_ends_at_their_total(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).write_bytes(b"x" * number)
    seen: list[tuple[int, int]] = []

    found = digests.of_files(
        tmp_path, [str(number) for number in range(20)], lambda done, total: seen.append((done, total))
    )

    assert max(seen) == (190, 190)
    assert found["3"] == hashlib.sha256(b"xxx").hexdigest()


def test_a_listing_is_that_of_sha256sum(tmp_path: Path) -> None:
    """So that an operator can compute the digest of a folder without us."""
    for name in ("b", "a"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    command = "sha256sum a b | sha256sum | cut -c1-64"
    theirs = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert digests.of_listing(digests.of_files(tmp_path, ["b", "a"])) == theirs.stdout.strip()


@given(st.dictionaries(names, st.sampled_from(["0" * 64, "f" * 64]), min_size=1))
def test_a_listing_depends_on_names_and_digests_and_not_on_their_order(found: dict[str, str]) -> None:
    name = next(iter(found))
    changed = found | {name: "7" * 64}

    assert digests.of_listing(dict(reversed(found.items()))) == digests.of_listing(found)
    assert digests.of_listing(changed) != digests.of_listing(found)
    assert digests.of_listing({key: found[key] for key in found if key != name}) != digests.of_listing(found)
