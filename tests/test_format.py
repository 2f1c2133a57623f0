"""docs/format.md against csrc/layout.h and the packed structs: sizes and offsets of every field, as the compiler has them."""
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

from memora.engine import backing, checkpoint, identity, recovery

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/format.md").read_text()
HEADER = ROOT / "memora/engine/csrc/layout.h"
PRIVATE = {"mm_buf", "mm_bytes", "mm_dirty", "mm_map"}
LINE = re.compile(r"^    (\d+) +(\d+)  ?(\w+)\b", re.M)


def sections():
    """{struct: (size, [(offset, size, field)])} as the document has them."""
    found = {}
    for part in re.split(r"^### ", TEXT, flags=re.M)[1:]:
        head = re.match(r"`(mm_\w+)` \((\d+) bytes", part)
        if head:
            found[head[1]] = int(head[2]), [(int(o), int(s), f) for o, s, f in LINE.findall(part)]
    return found


def stored_structs():
    """{struct: fields} of layout.h."""
    found = {}
    for body, name in re.findall(r"typedef struct(?: \w+)? \{(.*?)\} (mm_\w+);", HEADER.read_text(), re.S):
        if name not in PRIVATE:
            body = re.sub(r"/\*.*?\*/|_Alignas\(\d+\)", "", body, flags=re.S)
            found[name] = [re.match(r"\w+", field.strip().lstrip("*"))[0]
                           for line in body.split(";") if line.strip() for field in line.strip().split(None, 1)[1].split(",")]
    return found


def test_every_stored_struct_is_told_as_the_compiler_has_it(tmp_path):
    structs, told = stored_structs(), sections()
    assert set(told) == set(structs)
    code = [f'#include "{HEADER}"', "#include <stdio.h>", "int main(void) {"]
    for name, fields in structs.items():
        code.append(f'printf("{name} %zu\\n", sizeof({name}));')
        code += [f'printf("{name} %zu %zu {f}\\n", offsetof({name}, {f}), sizeof((({name} *)0)->{f}));' for f in fields]
    (tmp_path / "show.c").write_text("\n".join([*code, "}"]))
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    subprocess.run([compiler, "-std=gnu11", "-o", tmp_path / "show", tmp_path / "show.c"], check=True, timeout=60)
    real = {name: (0, []) for name in structs}
    for line in subprocess.check_output(tmp_path / "show", text=True, timeout=60).splitlines():
        name, *numbers = line.split()
        if len(numbers) == 1:
            real[name] = int(numbers[0]), real[name][1]
        else:
            real[name][1].append((int(numbers[0]), int(numbers[1]), numbers[2]))
    for name, (size, fields) in real.items():
        assert told[name] == (size, fields), name


@pytest.mark.parametrize("title, struct, offsets", [
    ("Checkpoint", checkpoint.HEAD, (0, 8, 12, 16, 32, 40, 48, 56, 64, 72)),
    ("Segments", recovery.SEGMENT_FIXED, (0, 8, 12, 16, 32, 40, 48, 52, 60)),
    ("Lock file", identity.IDENTITY, (0, 8, 24, 32, 48, 56, 64, 68, 72)),
])
def test_headers_of_the_files(title, struct, offsets):
    part = re.split(r"^### ", TEXT, flags=re.M)
    part, = [p for p in part if p.startswith(title + ":")]
    lines = [(int(o), int(s)) for o, s in re.findall(r"^    (\d+) +(\d+) ", part, re.M)]
    lines = lines[:len(offsets)]
    assert tuple(o for o, _ in lines) == offsets
    assert all(o + s == after for (o, s), (after, _) in zip(lines, lines[1:]))
    end = sum(lines[-1])
    said = int(re.search(r"(?:header of )?\b(\d+) bytes\b", part)[1])
    assert said == end
    # behind the struct stands the checksum, or the mark
    assert struct.size + (recovery.MARK.size if title == "Segments" else 4) == end


def test_the_file_that_names_a_segment():
    part, = [p for p in re.split(r"^### ", TEXT, flags=re.M) if p.startswith("`segment`:")]
    assert [(int(o), int(n)) for o, n, _ in LINE.findall(part)] == [(0, 8), (8, 4), (12, 4), (16, 8)]
    assert (backing.SEGMENT.format, backing.SEGMENT.size, backing.SEGMENT_MAGIC) == ("<8siiQ", 24, b"MEMSYSV\0")


def test_constants_of_the_document():
    header = HEADER.read_text()
    for name, value in (("MM_KEY_INLINE", "384"), ("MM_CELL_INLINE", "1024"), ("MM_MAX_SLOTS", "504"), ("MM_UNIT", "4096"),
                        ("MM_GRANULE", "1024"), ("MM_DESC_STORES", "1000"), ("MM_CHAIN_STORES", "251"), ("MM_TREE_FIRST", "16")):
        assert re.search(rf"#define {name} {value}u\b", header), name
        assert re.search(rf"\b{value}\b", TEXT), name
    assert (checkpoint.HEAD_MAGIC, recovery.SEGMENT_MAGIC, identity.IDENTITY_MAGIC) == (b"MEMORADB", b"MEMOWAL\0", b"MEMOLOCK")
    assert [s.size for s in (checkpoint.ENTRY, checkpoint.TREE, checkpoint.MESSAGE, checkpoint.END, checkpoint.BLOCK)] == [21, 13, 29, 17, 12]
