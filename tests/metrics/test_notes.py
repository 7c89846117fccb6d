import pytest
import torch

from ldm.metrics.notes import NotesInFiles, NotesInMemory, blocks_of, notes_found, rows_of


def test_blocks_cover_every_picture_once():
    assert [list(block) for block in blocks_of(5, 2)] == [[0, 1], [2, 3], [4]]


def test_rows_come_in_the_order_of_the_pictures_whoever_noted_them(tmp_path):
    rows = torch.arange(10.0).view(5, 2)
    notes = NotesInFiles(tmp_path, count=5, block=2)
    for number in (2, 0):
        notes.write(number, {"features": rows[2 * number : 2 * number + 2]})
    assert [notes.is_noted(number) for number in range(3)] == [True, False, True]
    NotesInFiles(tmp_path, count=5, block=2).write(1, {"features": rows[2:4]})
    assert notes.is_noted(1) and notes.count == 5
    assert torch.equal(rows_of(notes, "features"), rows)
    in_memory = NotesInMemory({1: {"features": rows[2:]}, 0: {"features": rows[:2]}})
    assert in_memory.count == 5 and torch.equal(rows_of(in_memory, "features"), rows)


def test_a_block_whose_pictures_changed_later_is_not_noted(tmp_path):
    notes = NotesInFiles(tmp_path, count=1, block=2)
    notes.write(0, {"features": torch.zeros(1, 2)})
    noted = (tmp_path / "000000.safetensors").stat().st_mtime
    assert notes.is_noted(0, noted) and not notes.is_noted(0, noted + 1)


def test_a_block_without_a_row_for_each_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match="block 0 has 2 pictures, but features has 3 rows"):
        NotesInFiles(tmp_path, count=5, block=2).write(0, {"features": torch.zeros(3, 1)})


def test_a_damaged_block_is_named(tmp_path):
    notes = NotesInFiles(tmp_path, count=2, block=2)
    (tmp_path / "000000.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"000000.safetensors is damaged"):
        rows_of(notes, "features")


def test_a_block_of_another_number_of_pictures_is_damaged(tmp_path):
    NotesInFiles(tmp_path, count=3, block=3).write(0, {"features": torch.zeros(3, 1)})
    with pytest.raises(ValueError, match=r"is damaged \(3 rows for 2 pictures\)"):
        rows_of(NotesInFiles(tmp_path, count=4, block=2), "features")


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused_by_the_picture(tmp_path, wrong):
    rows = torch.zeros(2, 3)
    rows[1, 2] = wrong
    notes = NotesInFiles(tmp_path / "inception-12", count=4, block=2)
    with pytest.raises(ValueError, match=r"^inception-12: features of picture 3 are NaN"):
        notes.write(1, {"features": rows})
    assert not notes.is_noted(0) and not notes.is_noted(1)
    with pytest.raises(ValueError, match="features of picture 3 are NaN"):
        NotesInMemory({0: {"features": torch.zeros(2, 3)}, 1: {"features": rows}})


def test_a_distance_may_be_infinite_and_not_nan():
    NotesInMemory({0: {"psnr": torch.tensor([30.0, torch.inf]), "count": torch.ones(2).int()}})
    with pytest.raises(ValueError, match="psnr of picture 1"):
        NotesInMemory({0: {"psnr": torch.tensor([30.0, torch.nan])}})


def test_notes_are_read_as_they_are_found(tmp_path):
    rows = torch.arange(10.0).view(5, 2)
    notes = NotesInFiles(tmp_path, count=5, block=2)
    with pytest.raises(ValueError, match="holds no notes"):
        notes_found(tmp_path)
    for number, block in enumerate(blocks_of(5, 2)):
        notes.write(number, {"features": rows[block.start : block.stop]})
    assert torch.equal(rows_of(notes_found(tmp_path), "features"), rows)
    (tmp_path / "000001.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="are damaged"):
        notes_found(tmp_path)
