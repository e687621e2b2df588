"""The results of the local run have a limit: those that nobody asked for for longest go."""

import os

from cellworker.identifiers import ETag
from cellworker.local.results import DiskResults


def names(folder):
    return sorted(path.name for path in folder.iterdir())


async def test_the_results_not_asked_for_for_longest_go_with_their_tags(tmp_path):
    results = DiskResults(tmp_path, max_bytes=1000)
    etags = [ETag(f"e{number}") for number in range(5)]
    for age, etag in enumerate(etags[:4]):
        await results.put(etag, bytes(240), {"requestType": "x"})
        os.utime(tmp_path / etag, (1000 + age, 1000 + age))
    assert len(names(tmp_path)) == 8
    assert await results.get(etags[0]) == bytes(240), "now it is the one used last"
    await results.put(etags[4], bytes(240), {"requestType": "x"})
    assert names(tmp_path) == ["e0", "e0.tags.json", "e3", "e3.tags.json", "e4", "e4.tags.json"]


async def test_what_an_earlier_run_left_counts_and_a_result_beyond_the_limit_is_kept_until_the_next(tmp_path):
    results = DiskResults(tmp_path)
    for number in range(3):
        await results.put(ETag(f"e{number}"), bytes(600), {})
    results = DiskResults(tmp_path, max_bytes=1000)
    assert len([name for name in names(tmp_path) if not name.endswith(".json")]) == 1
    await results.put(ETag("large"), bytes(5000), {})
    assert names(tmp_path) == ["large", "large.tags.json"]
    await results.put(ETag("next"), bytes(10), {})
    assert names(tmp_path) == ["next", "next.tags.json"]
