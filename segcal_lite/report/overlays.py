"""What probabilities and segments look like on the image.

A slice is an array (X, Y), drawn as it is indexed: the first axis runs to the right, the second
upwards, in millimetres. This is the radiological view when the first axis points to the patient's
left and the second to the front.
"""

import matplotlib.patheffects as patheffects
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from .._checks import check_finite, check_spacing, wrong_input
from .probabilities import checked_probs
from .style import literal

PROBABILITY_MAP = "plasma"  # lightness rises evenly: readable in grey and by the colour-blind
MASKED_UP_TO = 0.001  # paper A leaves such probabilities uncoloured (caption of Fig. 1)


def fullest_slice(labels):
    """Return the index along the last axis of the slice that shows most foreground.

    Parameters
    ----------
    labels : integer array (X, Y, Z)
        Above 0 is foreground; without any it is the first slice.

    Returns
    -------
    int

    Examples
    --------
    >>> fullest_slice(np.array([[[0, 1, 1], [-1, 2, 0]]]))
    1
    """
    return int(np.count_nonzero(np.asarray(labels) > 0, axis=(0, 1)).argmax())


def plot_overlay(
    axes,
    image_slice,
    labels_slice=None,
    prob_slice=None,
    class_index=1,
    spacing_mm=(1.0, 1.0),
    view_mm=None,
):
    """Draw a grey slice, the probability of a class in colour and its true contour in white.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    image_slice : array (X, Y)
        Shown from its 0.5th to its 99.5th percentile.
    labels_slice : integer array (X, Y), optional
        A slice without the class gets no contour.
    prob_slice : array (X, Y), optional
        Probability of class `class_index` in [0, 1]; 0.001 and less, and NaN, stay uncoloured.
    class_index : int
        Which class is outlined.
    spacing_mm : (sx, sy)
        Size of a pixel.
    view_mm : ((left, right), (bottom, top)), optional
        The part to show; by default the whole slice.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        When shapes differ or a probability lies outside [0, 1].

    Examples
    --------
    >>> figure, axes = plt.subplots()
    >>> prob_slice = np.array([[0.0, 0.001], [0.2, 1.0]])
    >>> axes = plot_overlay(axes, np.eye(2), prob_slice=prob_slice)
    >>> int(axes.images[1].get_array().count())  # two of the four pixels are coloured
    2
    >>> plt.close(figure)
    """
    checked = _checked_slices(image_slice, labels_slice, prob_slice, class_index)
    image_slice, mask, prob_slice = checked
    frame = _frame(image_slice.shape, spacing_mm)
    _, width_mm, _, height_mm = frame["extent"]
    black, white = np.percentile(image_slice, [0.5, 99.5])
    axes.imshow(image_slice.T, cmap="gray", vmin=black, vmax=white, **frame)
    if prob_slice is not None:
        coloured = np.ma.masked_where(~(prob_slice > MASKED_UP_TO), prob_slice)
        axes.imshow(coloured.T, cmap=PROBABILITY_MAP, vmin=0, vmax=1, alpha=0.65, **frame)
    if mask is not None and mask.any():
        _draw_contour(axes, mask, spacing_mm)
    view_mm = ((0, width_mm), (0, height_mm)) if view_mm is None else view_mm
    (left, right), (bottom, top) = view_mm
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="black")
    _draw_scale_bar(axes, left, bottom, right - left, top - bottom)
    return axes


def plot_overlay_grid(
    image_slice,
    labels_slice,
    prob_slices,
    class_index=1,
    spacing_mm=(1.0, 1.0),
    margin_mm=None,
    n_columns=5,
):
    """Draw the image with its contour, one overlay a title, and a colour bar from 0 to 1.

    `prob_slices` maps titles to arrays (X, Y), `labels_slice` may be None; the rest is as in
    `plot_overlay`. Titles such as ``"M = 10"`` give Figs. 5 and 6 of paper A's supplement. With
    `margin_mm`, all panels show a square with that margin around the class, in truth or in
    probability above 0.5. Returns the Figure.
    """
    if not prob_slices:
        raise wrong_input("prob_slices", "no slice", "at least one title with its slice")
    pair = image_slice, labels_slice
    checked = [_checked_slices(*pair, probs, class_index) for probs in prob_slices.values()]
    view_mm = None if margin_mm is None else _common_view(checked, spacing_mm, margin_mm)
    panels = {"image" if labels_slice is None else "image, truth": None, **prob_slices}
    n_columns = min(n_columns, len(panels))
    n_rows = -(-len(panels) // n_columns)
    width, height = (1, 1) if view_mm else np.shape(image_slice) * np.asarray(spacing_mm)
    row_inches = min(8.8 / n_columns, 4.5) * height / width + 0.4  # 0.4 inch for the title
    figure, grid = plt.subplots(
        n_rows, n_columns, figsize=(10, n_rows * row_inches), squeeze=False, layout="constrained"
    )
    for axes, (title, prob_slice) in zip(grid.flat, panels.items(), strict=False):
        plot_overlay(axes, *pair, prob_slice, class_index, spacing_mm, view_mm)
        axes.set_title(title)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    colours = plt.cm.ScalarMappable(plt.Normalize(0, 1), PROBABILITY_MAP)
    figure.colorbar(colours, ax=figure.axes, label=f"probability of class {class_index}", aspect=20)
    return figure


def plot_review(
    image_slice,
    predicted_slice,
    entropy_slice,
    segments,
    spacing_mm=(1.0, 1.0),
    margin_mm=20.0,
):
    """Draw a doubtful case for a person to look at: image, prediction and entropy side by side.

    Parameters
    ----------
    image_slice : array (X, Y) or None
        Without one the prediction lies on black.
    predicted_slice : int array (X, Y) of classes, or bool array (R, X, Y) of overlapping segments
    entropy_slice : array (X, Y) or None
        In nats, drawn from 0 to ln 2, which a voxel torn between two classes has.
    segments : sequence of str
        Names of the classes 1 to K - 1, or of the R segments.
    spacing_mm : (sx, sy)
        Size of a pixel.
    margin_mm : float
        All panels show a square with this margin around the prediction, or, where nothing is
        predicted, the whole slice.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When shapes differ or the entropy is not finite.

    Examples
    --------
    >>> figure = plot_review(np.eye(3), np.eye(3, dtype=int), np.full((3, 3), 0.1), ["organ"])
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['image', 'prediction', 'entropy']
    >>> plt.close(figure)
    """
    masks = np.asarray(predicted_slice)
    if masks.ndim == 2:
        masks = np.stack([masks == k for k in range(1, len(segments) + 1)])
    image = np.zeros(masks.shape[1:]) if image_slice is None else np.asarray(image_slice)
    for name, array in (("predicted_slice", masks[0]), ("entropy_slice", entropy_slice)):
        if array is not None and np.shape(array) != image.shape:
            raise wrong_input(name, f"shape {np.shape(array)}", f"{image.shape} as the image")
    pictured = image, masks.any(axis=0), np.zeros(image.shape)
    view_mm = _common_view([pictured], spacing_mm, margin_mm)
    titles = ["image", "prediction", "entropy"]
    titles = titles[image_slice is None : 3 - (entropy_slice is None)]
    look = {"figsize": (3.3 * len(titles), 3.8), "squeeze": False, "layout": "constrained"}
    figure, (panels,) = plt.subplots(1, len(titles), **look)
    for axes, title in zip(panels, titles, strict=True):
        plot_overlay(axes, image, spacing_mm=spacing_mm, view_mm=view_mm).set_title(title)
    _draw_segments(panels[titles.index("prediction")], masks, segments, spacing_mm)
    if entropy_slice is not None:
        entropy = check_finite("entropy_slice", np.asarray(entropy_slice, dtype=float))
        look = _frame(image.shape, spacing_mm) | {"cmap": "magma", "vmin": 0, "vmax": np.log(2)}
        drawn = panels[-1].imshow(entropy.T, **look)
        figure.colorbar(drawn, ax=panels[-1], label="nats", extend="max", shrink=0.8)
    return figure


def _checked_slices(image_slice, labels_slice, prob_slice, class_index):
    """Return image (X, Y), mask of the class (X, Y) or None, probability (X, Y) or None."""
    image_slice = check_finite("image_slice", np.asarray(image_slice, dtype=float))
    if image_slice.ndim != 2 or not image_slice.size:
        raise wrong_input("image_slice", f"shape {image_slice.shape}", "(X, Y), not empty")
    for name, array in (("labels_slice", labels_slice), ("prob_slice", prob_slice)):
        if array is not None and np.shape(array) != image_slice.shape:
            raise wrong_input(name, f"shape {np.shape(array)}", f"{image_slice.shape} as the image")
    mask = None if labels_slice is None else np.asarray(labels_slice) == class_index
    return (
        image_slice,
        mask,
        None if prob_slice is None else checked_probs("prob_slice", prob_slice),
    )


def _frame(shape, spacing_mm):
    """How ``imshow`` draws a transposed slice in millimetres."""
    width_mm, height_mm = np.array(shape) * check_spacing(spacing_mm, 2)
    return {"origin": "lower", "extent": (0, width_mm, 0, height_mm), "interpolation": "nearest"}


def _draw_contour(axes, mask, spacing_mm):
    """Draw the boundary of `mask` (X, Y) in white, closed also where it meets the image's edge."""
    sizes = zip(mask.shape, spacing_mm, strict=True)
    centres_mm = [(np.arange(-1, n + 1) + 0.5) * step for n, step in sizes]
    padded = np.pad(mask, 1).T.astype(float)
    contour = axes.contour(*centres_mm, padded, levels=[0.5], colors="white", linewidths=1.5)
    # A dark rim keeps the white line visible on bright tissue.
    contour.set_path_effects([patheffects.withStroke(linewidth=3, foreground="black")])


def _common_view(checked, spacing_mm, margin_mm):
    """Return ((left, right), (bottom, top)) of a square around the class in all slices, or None."""
    shown = np.any([prob_slice > 0.5 for _, _, prob_slice in checked], axis=0)
    pixels = np.argwhere(shown if checked[0][1] is None else shown | checked[0][1])
    if not len(pixels):
        return None
    corners_mm = np.array([pixels.min(axis=0), pixels.max(axis=0) + 1]) * spacing_mm
    half_mm = np.ptp(corners_mm, axis=0).max() / 2 + margin_mm
    return [(float(c - half_mm), float(c + half_mm)) for c in corners_mm.mean(axis=0)]


def _draw_segments(axes, masks, segments, spacing_mm):
    """Fill each mask (R, X, Y) with a colour of its own, and name those that are there."""
    colours, handles = sns.color_palette("colorblind", len(masks)), []
    for mask, colour, name in zip(masks, colours, segments, strict=True):
        if mask.any():
            filled = np.ma.masked_where(~mask, mask)
            look = {"cmap": ListedColormap([colour]), "alpha": 0.5}
            axes.imshow(filled.T, **look, **_frame(mask.shape, spacing_mm))
            handles.append(Patch(color=colour, label=literal(name)))
    if handles:
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=4)


def _draw_scale_bar(axes, left, bottom, width_mm, height_mm):
    """Draw a bar whose round length in mm is about a quarter of the width."""
    lengths_mm = np.outer(10.0 ** np.arange(-1, 4), [1, 2, 5]).ravel()
    length_mm = lengths_mm[np.argmin(np.abs(np.log(lengths_mm / (0.25 * width_mm))))]
    start, level = left + 0.05 * width_mm, bottom + 0.05 * height_mm
    rim = [patheffects.withStroke(linewidth=3, foreground="black")]
    axes.plot([start, start + length_mm], [level, level], color="white", path_effects=rim)
    text = {"color": "white", "fontsize": 10, "va": "bottom", "path_effects": rim}
    axes.text(start, level + 0.02 * height_mm, f"{length_mm:g} mm", **text)
