"""Copying an object: byte for byte where nothing changes, in meaning where something does."""

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.copying import Copier, copy_rds
from cellworker.formats.r.rds.model import RList, RSymbol

RSCRIPT = shutil.which("Rscript")
HEADERS = {
    2: b"X\n" + struct.pack(">iii", 2, 0x00040202, 0x00020300),
    3: b"X\n" + struct.pack(">iiii", 3, 0x00040202, 0x00030500, 5) + b"UTF-8",
}
KEYS = (
    "first", "gone", "g", "f", "long", "text", "sorted", "again", "call", "formula", "ns", "other", "pointer", "bytes",
    "complex", "latin",
)  # fmt: skip
PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "plain": bytes}


# A tree is a tuple: ("symbol", name), ("namespace", name), ("environment", number, [values]), ("integers", [..]),
# ("strings", [..]), ("list", [trees], {tag: tree}), ("closure", environment, body). Equal numbers are one environment.


class Serialiser:
    """Writes trees as R does, each symbol and environment once."""

    def __init__(self):
        self.known = {}
        self.out = io.BytesIO()

    def words(self, *values):
        self.out.write(struct.pack(f">{len(values)}i", *values))

    def char(self, text):
        content = text.encode()
        self.words(9 | (64 if content.isascii() else 8) << 12, len(content))
        self.out.write(content)

    def repeated(self, key):
        if key in self.known:
            self.words(255 | self.known[key] << 8)
            return True
        self.known[key] = len(self.known) + 1
        return False

    def pairs(self, pairs):
        for tag, value in pairs:
            self.words(2 | 0x400)
            self.tree(("symbol", tag))
            self.tree(value)
        self.words(254)

    def tree(self, value):
        kind = value[0]
        if kind == "symbol":
            if not self.repeated(value):
                self.words(1)
                self.char(value[1])
        elif kind == "namespace":
            if not self.repeated(value):
                self.words(249, 0, 1)
                self.char(value[1])
        elif kind == "environment":
            if not self.repeated(value[:2]):
                self.words(4, 0, 242)
                self.pairs([(f"v{i}", item) for i, item in enumerate(value[2])])
                self.words(254, 254)
        elif kind == "integers":
            self.words(13, len(value[1]), *value[1])
        elif kind == "strings":
            self.words(16, len(value[1]))
            for text in value[1]:
                self.char(text)
        elif kind == "closure":
            self.words(3 | 0x400)
            self.tree(value[1])
            self.words(254)
            self.tree(value[2])
        else:
            self.words(19 | (0x200 if value[2] else 0), len(value[1]))
            for item in value[1]:
                self.tree(item)
            if value[2]:
                self.pairs(value[2].items())


def serialised(tree):
    writer = Serialiser()
    writer.tree(tree)
    return writer.out.getvalue()


class Parser:
    """Reads trees back; environments are numbered in the order met."""

    def __init__(self, content):
        self.content, self.at, self.table, self.environments = content, 0, [], 0

    def word(self):
        (value,) = struct.unpack_from(">i", self.content, self.at)
        self.at += 4
        return value

    def char(self):
        assert self.word() & 0xFF == 9
        size = self.word()
        self.at += size
        return self.content[self.at - size : self.at].decode()

    def pairs(self, flags):
        found = {}
        while flags & 0xFF == 2:
            tag = self.tree()[1]
            found[tag] = self.tree()
            flags = self.word()
        assert flags == 254
        return found

    def tree(self):
        flags = self.word()
        kind = flags & 0xFF
        if kind == 255:
            return self.table[(flags >> 8 or self.word()) - 1]
        if kind == 1:
            self.table.append(("symbol", self.char()))
            return self.table[-1]
        if kind == 249:
            assert (self.word(), self.word()) == (0, 1)
            self.table.append(("namespace", self.char()))
            return self.table[-1]
        if kind == 4:
            assert (self.word(), self.word()) == (0, 242)
            self.environments += 1
            self.table.append(("environment", self.environments))
            mine = self.table[-1]
            inside = self.pairs(self.word())
            assert (self.word(), self.word()) == (254, 254)
            return (*mine, list(inside.values()))
        if kind == 13:
            return ("integers", [self.word() for _ in range(self.word())])
        if kind == 16:
            return ("strings", [self.char() for _ in range(self.word())])
        if kind == 3:
            environment = self.tree()
            assert self.word() == 254
            return ("closure", environment, self.tree())
        assert kind == 19, kind
        items = [self.tree() for _ in range(self.word())]
        return ("list", items, self.pairs(self.word()) if flags & 0x200 else {})


def parsed(content):
    parser = Parser(content)
    tree = parser.tree()
    assert parser.at == len(content)
    return tree


def copied(path, edit):
    out = io.BytesIO()
    copy_rds(path, out, edit)
    return out.getvalue()


def written(folder, tree, version=3, packing="plain"):
    path = folder / "source.rds"
    path.write_bytes(PACKERS[packing](HEADERS[version] + serialised(tree)))
    return path


names = st.sampled_from(["i", "p", "levels", "class", "é", "names"])
texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
symbols = st.builds(lambda name: ("symbol", name), names)
environments = st.builds(lambda number: ("environment", number, [("symbol", f"in {number}")]), st.integers(1, 3))
leaves = st.one_of(
    symbols,
    st.builds(lambda name: ("namespace", name), st.sampled_from(["stats", "Seurat"])),
    st.builds(lambda values: ("integers", values), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)),
    st.builds(lambda values: ("strings", values), st.lists(texts, max_size=9)),
    environments,
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda items, tags: ("list", items, tags),
            st.lists(inner, max_size=4),
            st.dictionaries(names, inner, max_size=2),
        ),
        st.builds(lambda environment, body: ("closure", environment, body), environments, inner),
    ),
    max_leaves=12,
)  # fmt: skip


@given(trees, st.sampled_from(sorted(HEADERS)), st.sampled_from(sorted(PACKERS)))
def test_without_edits_the_bytes_are_the_same(tmp_path_factory, tree, version, packing):
    path = written(tmp_path_factory.mktemp("rds"), tree, version, packing)
    assert copied(path, Copier.copy) == HEADERS[version] + serialised(tree)


NEW = ("list", [("integers", [7])], {"levels": ("strings", ["a", "é"]), "new": ("symbol", "class")})
NEW_VALUE = RList([build.integers([7])], {"levels": build.strings(["a", "é"]), "new": RSymbol("class")})


def environments_of(tree):
    if tree[0] == "environment":
        return {tree[1]}
    if tree[0] == "closure":
        return environments_of(tree[1]) | environments_of(tree[2])
    if tree[0] == "list":
        return set().union(*map(environments_of, [*tree[1], *tree[2].values()]))
    return set()


@given(
    st.lists(trees, max_size=6), st.lists(st.sampled_from(["keep", "remove", "replace"]), min_size=6, max_size=6), trees
)
def test_what_is_not_edited_keeps_its_meaning(tmp_path_factory, elements, fates, behind):
    keys = [f"{fate} {i}" for i, fate in enumerate(fates[: len(elements)])]
    tree = ("list", [("list", elements, {"x": ("symbol", "p"), "names": ("strings", keys)}), behind], {})
    path = written(tmp_path_factory.mktemp("rds"), tree)

    def edit(copier):
        copier.named_list(
            keys,
            replaced={key: NEW_VALUE for key in keys if key.startswith("replace")},
            removed={key for key in keys if key.startswith("remove")},
            added={"added": NEW_VALUE},
        )

    kept = [(key, item) for key, item in zip(keys, elements, strict=True) if key.startswith("keep")]
    first_lost = {n for i, (key, item) in enumerate(zip(keys, elements, strict=True)) if not key.startswith("keep")
                  for n in environments_of(item) - set().union(*map(environments_of, elements[:i]))}  # fmt: skip
    shared = first_lost & set().union(*(environments_of(item) for _, item in kept), environments_of(behind))
    if shared:
        with pytest.raises(WorkerError, match="shares an R environment") as caught:
            copied(path, lambda copier: copier.elements({0: edit}))
        assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED
        return
    found = copied(path, lambda copier: copier.elements({0: edit}))
    items = [(key, NEW if key.startswith("replace") else item)
             for key, item in zip(keys, elements, strict=True) if not key.startswith("remove")]  # fmt: skip
    items.append(("added", NEW))
    tags = {"x": ("symbol", "p"), "names": ("strings", [key for key, _ in items])}
    wanted = ("list", [("list", [item for _, item in items], tags), behind], {})
    assert parsed(found[len(HEADERS[3]) :]) == parsed(serialised(wanted))


def test_a_list_without_names_gets_them(tmp_path):
    path = written(tmp_path, ("list", [("list", [], {}), ("symbol", "names")], {}))
    found = copied(
        path,
        lambda copier: copier.elements(
            {0: lambda copier: copier.named_list([], replaced={}, removed=set(), added={"umap": NEW_VALUE})}
        ),
    )
    wanted = ("list", [("list", [NEW], {"names": ("strings", ["umap"])}), ("symbol", "names")], {})
    assert parsed(found[len(HEADERS[3]) :]) == parsed(serialised(wanted))


def test_long_vectors_and_strings_pass_through_chunks(tmp_path):
    texts = [f"{'x' * (i % 700)}{'é' * (i % 3)}" for i in range(9000)]
    tree = ("list", [("strings", texts), ("symbol", "a"), ("integers", [5] * 600_000), ("symbol", "a")], {})
    path = written(tmp_path, tree, packing="gzip")
    assert copied(path, Copier.copy) == HEADERS[3] + serialised(tree)
    found = copied(path, lambda copier: copier.elements({0: lambda copier: copier.replace(NEW_VALUE)}))
    wanted = ("list", [NEW, *tree[1][1:]], {})
    assert parsed(found[len(HEADERS[3]) :]) == parsed(serialised(wanted))


@pytest.mark.parametrize("end", [3, 30, -1])
def test_a_cut_file_is_refused(tmp_path, end):
    path = written(tmp_path, NEW)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(WorkerError) as caught:
        copied(path, Copier.copy)
    assert caught.value.code is ErrorCode.EXPERIMENT_UNREADABLE


@pytest.mark.skipif(RSCRIPT is None, reason="Rscript is not installed")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("compress", ["TRUE", "FALSE", "'xz'", "'bzip2'"])
def test_r_finds_code_and_environments_as_they_were(tmp_path, version, compress):
    source, target = tmp_path / "source.rds", tmp_path / "target.rds"
    make = f"""
        e <- new.env(); e$self <- e; e$f <- function(x, ...) {{ y <- x + 1; y }}
        shared <- new.env(parent = e); assign("z", 1:3, shared)
        g <- compiler::cmpfun(function(a) {{ for (i in 1:10) a <- a + i; a }})
        other <- structure(list(quote(a + b), e), tag = as.name("only_here"), levels = "q")
        x <- list(first = list(e, as.name("p")), gone = structure(list(1), left_out = as.name("later"), levels = 1),
          g = g, f = e$f, long = 1:100000, text = as.character(1:5000), sorted = sort(runif(100)), again = shared,
          call = quote(later(only_here)), formula = y ~ x, ns = asNamespace("stats"), other = other,
          pointer = methods::getClass("numeric"), bytes = as.raw(1:9), complex = 1i,
          latin = iconv("\\u00e9", "UTF-8", "latin1"))
        attr(x, "class") <- "kept"
        saveRDS(x, "{source}", version = {version}, compress = {compress})
    """
    run_r(make)
    keys = list(KEYS)
    with target.open("wb") as file:
        copy_rds(
            source,
            file,
            lambda copier: copier.named_list(keys, replaced={}, removed={"gone"}, added={"new": NEW_VALUE}),
        )
    look = f"""
        x <- readRDS("{source}"); y <- readRDS("{target}")
        stopifnot(names(y) == c(setdiff(names(x), "gone"), "new"), class(y) == "kept")
        same <- function(a, b) identical(serialize(a, NULL), serialize(b, NULL))
        for (n in setdiff(names(x), "gone")) if (!same(x[[n]], y[[n]])) cat(n, "")
        e <- y$first[[1]]
        stopifnot(identical(e$self, e), identical(parent.env(y$again), e), identical(y$other[[2]], e))
        stopifnot(e$f(1) == 2, y$g(0) == 55, identical(attr(y$new, "levels"), c("a", "\\u00e9")))
    """
    # The environments of formulas and the order of their variables are the session's.
    assert set(run_r(look).split()) <= {"formula"}


def run_r(code: str) -> str:
    done = subprocess.run([RSCRIPT, "--vanilla", "-e", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.shared
def test_real_objects_are_copied_byte_for_byte(shared):
    unpack = {b"\x1f\x8b": gzip.decompress, b"BZ": bz2.decompress, b"\xfd7": lzma.decompress}
    found = sorted(path for path in Path(shared / "data/objects").glob("*/*.rds") if path.stat().st_size < 3e6)
    assert found
    for path in found:
        content = path.read_bytes()
        content = unpack.get(content[:2], bytes)(content)
        assert copied(path, Copier.copy) == content, path.name
