import numpy as np
import pytest
import torch

from segcal_lite.training.random_blocks import block_transform, draw_block

SIDE = 8


def coded_case(shape=(20, 14, 11)):
    """An image whose voxels tell their place, and labels that are a function of it."""
    places = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    return np.stack([places, -places]), (places.astype(int) % 3)


def blocks(n, image, labels, **settings):
    transform = block_transform(SIDE, **settings)
    return [draw_block(transform, image, labels, seed) for seed in range(n)]


def test_blocks_are_parts_of_the_case_and_labels_go_with_the_image():
    image, labels = coded_case()
    for block, truth in blocks(50, image, labels, noise=0.0):
        assert block.shape == (2, SIDE, SIDE, SIDE)
        assert truth.shape == (SIDE, SIDE, SIDE)
        assert (block.dtype, truth.dtype) == (torch.float32, torch.int64)
        assert torch.equal(block[1], -block[0])
        assert torch.equal(block[0].long() % 3, truth)
        assert len(torch.unique(block[0])) == SIDE**3


def test_positions_reach_every_corner():
    image, labels = coded_case()
    seen = np.zeros(labels.size + 1, dtype=bool)
    for block, _ in blocks(300, image, labels, noise=0.0, augment=False):
        seen[block[0].long().ravel()] = True
    assert seen[1:].mean() > 0.99


def test_without_augmentation_a_block_is_cut_out_as_it_is():
    image, labels = coded_case()
    for block, _ in blocks(20, image, labels, augment=False):
        first = np.argwhere(image[0] == block[0, 0, 0, 0].item())[0]
        window = tuple(slice(a, a + SIDE) for a in first)
        assert np.array_equal(block.numpy(), image[:, *window])


def test_flips_and_quarter_turns_reach_all_48_positions_of_a_cube():
    image = np.arange(SIDE**3, dtype=np.float32).reshape(1, SIDE, SIDE, SIDE)
    labels = np.zeros((SIDE,) * 3, dtype=int)
    transform = block_transform(SIDE, noise=0.0)
    positions = {
        draw_block(transform, image, labels, seed)[0].numpy().tobytes() for seed in range(1500)
    }
    assert len(positions) == 48


def test_small_volumes_are_padded_with_zeros_and_background():
    image, labels = coded_case((5, 20, 3))
    for block, truth in blocks(10, image, labels, noise=0.0):
        real = block[0] != 0
        assert int(real.sum()) == 5 * SIDE * 3
        assert not truth[~real].any()


def test_noise_is_on_the_image_alone_and_bounded_by_its_setting():
    image, labels = np.zeros((1, 24, 24, 24)), np.ones((24, 24, 24), dtype=int)
    deviations = []
    for block, truth in blocks(40, image, labels, noise=0.1):
        assert torch.equal(truth, torch.ones_like(truth))
        deviations.append(block.std().item())
    assert max(deviations) < 0.11
    assert np.mean(deviations) == pytest.approx(0.05, abs=0.015)  # uniform up to 0.1


def test_the_same_seed_gives_the_same_block_whatever_was_drawn_before():
    image, labels = coded_case()
    transform = block_transform(SIDE, noise=0.05, foreground_share=0.5)
    first = [draw_block(transform, image, labels, seed) for seed in (3, 4, 5)]
    fresh = block_transform(SIDE, noise=0.05, foreground_share=0.5)
    torch.manual_seed(99)
    np.random.seed(7)  # noqa: NPY002 - the global state must not matter
    again = [draw_block(fresh, image, labels, seed) for seed in (5, 3, 4)]
    for one, other in zip(first, [*again[1:], again[0]], strict=True):
        assert all(map(torch.equal, one, other))
    assert not torch.equal(first[0][0], first[1][0])


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.5, 0.5)])
def test_foreground_is_drawn_in_the_wanted_share(share, expected):
    labels = np.zeros((40, 40, 40), dtype=int)
    labels[33:36, 4:7, 20:23] = 1
    image = np.zeros((1, 40, 40, 40))
    hit = [truth.any() for _, truth in blocks(200, image, labels, foreground_share=share)]
    assert np.mean(hit) == pytest.approx(expected, abs=0.12)
    at_random = [truth.any() for _, truth in blocks(200, image, labels)]
    assert np.mean(at_random) < 0.2


def test_a_case_without_foreground_still_gives_blocks():
    image, labels = np.ones((1, 12, 12, 12)), np.zeros((12, 12, 12), dtype=int)
    block, truth = blocks(1, image, labels, foreground_share=0.5)[0]
    assert block.shape == (1, SIDE, SIDE, SIDE)
    assert not truth.any()


def test_unannotated_voxels_keep_their_label_and_attract_no_block():
    labels = np.full((30, 30, 30), -1)
    labels[20:, 20:, 20:] = 0
    labels[28, 28, 28] = 1
    image = labels[np.newaxis].astype(float)
    for share in (1.0, 0.5):
        for block, truth in blocks(30, image, labels, noise=0.0, foreground_share=share):
            assert torch.equal(block[0].long(), truth)  # turned and flipped together
            assert (truth == 1).any() or share < 1  # MONAI alone would centre on -1
            assert (truth >= 0).any()
    assert {-1, 0} <= set(np.unique(torch.stack([t for _, t in blocks(30, image, labels)])))


def test_a_case_that_nobody_annotated_still_gives_blocks():
    image, labels = np.ones((1, 12, 12, 12)), np.full((12, 12, 12), -1)
    _, truth = blocks(1, image, labels, foreground_share=0.5)[0]
    assert torch.equal(truth, torch.full_like(truth, -1))


def test_our_centres_are_those_of_monai_where_all_is_annotated():
    from monai.transforms import RandCropByPosNegLabeld

    image, labels = coded_case()
    labels = (labels > 1).astype(int)
    transform = block_transform(SIDE, foreground_share=0.3, augment=False)
    case = {"image": torch.from_numpy(image), "labels": torch.from_numpy(labels)[None]}
    for seed in range(20):
        block, _ = draw_block(transform, image, labels, seed)
        theirs = RandCropByPosNegLabeld(tuple(case), "labels", (SIDE,) * 3, pos=0.3, neg=0.7)
        transform.set_random_state(seed=seed)
        theirs.set_random_state(state=transform.transforms[2].cropper.R)
        assert torch.equal(block, theirs(case)[0]["image"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_side": 0}, "block_side: found 0"),
        ({"block_side": 8, "noise": -1}, "noise: found -1"),
        ({"block_side": 8, "noise": float("nan")}, "noise: found nan"),
        ({"block_side": 8, "foreground_share": 1.5}, "foreground_share: found 1.5"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        block_transform(**settings)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="image and labels: found shapes"):
        draw_block(block_transform(8), np.zeros((1, 9, 9, 9)), np.zeros((9, 9, 8), dtype=int), 0)
