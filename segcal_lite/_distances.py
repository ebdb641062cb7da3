"""Distances to a surface as machine code: exact, and no farther than they are asked for."""

import numpy as np

from ._loops import compiled


@compiled
def _squared_distances(surface, spacing, where, farthest, squared):
    """Write the squared distances of the voxels `where` (X, Y, Z), in order, to a surface.

    Exact, an axis at a time (Felzenszwalb & Huttenlocher, Theory of Computing 8, 2012): along z by
    counting, along y by the lower envelope of parabolas, along x by looking as far as can matter.
    """
    n_x, n_y, n_z = surface.shape
    in_plane = np.empty((n_x, n_y, n_z))  # squared distance to the surface in the same plane
    apex, height, start = np.empty(n_y), np.empty(n_y), np.empty(n_y)
    for x in range(n_x):
        for y in range(n_y):
            since = np.inf
            for z in range(n_z):
                since = 0.0 if surface[x, y, z] else since + 1
                in_plane[x, y, z] = since
            for z in range(n_z - 1, -1, -1):
                since = min(in_plane[x, y, z], since + 1)
                in_plane[x, y, z] = (since * spacing[2]) ** 2
        for z in range(n_z):
            n = 0  # parabolas of the envelope, each the lowest from its start to the next one's
            for y in range(n_y):
                f, u, begin = in_plane[x, y, z], y * spacing[1], -np.inf
                if f == np.inf:
                    continue
                while n:
                    v = apex[n - 1]
                    begin = (f - height[n - 1] + (u - v) * (u + v)) / (2 * (u - v))
                    if begin > start[n - 1]:
                        break
                    n -= 1
                    begin = -np.inf
                apex[n], height[n], start[n] = u, f, begin
                n += 1
            lowest = 0
            for y in range(n_y if n else 0):
                u = y * spacing[1]
                while lowest + 1 < n and start[lowest + 1] < u:
                    lowest += 1
                in_plane[x, y, z] = height[lowest] + (u - apex[lowest]) ** 2
    number = 0
    for x in range(n_x):
        for y in range(n_y):
            for z in range(n_z):
                if not where[x, y, z]:
                    continue
                nearest, step = min(in_plane[x, y, z], farthest), 1
                while step < n_x and (step * spacing[0]) ** 2 < nearest:
                    across = (step * spacing[0]) ** 2
                    if x >= step:
                        nearest = min(nearest, in_plane[x - step, y, z] + across)
                    if x + step < n_x:
                        nearest = min(nearest, in_plane[x + step, y, z] + across)
                    step += 1
                squared[number] = nearest
                number += 1


def distances_to_surface(surface, spacing_mm, where, farthest_mm=np.inf):
    """Return how far voxels lie from the nearest voxel of a surface.

    Parameters
    ----------
    surface, where : bool arrays of one shape, two or three axes
        Voxels of the surface, and those whose distances are wanted.
    spacing_mm : float64 array, a number an axis
    farthest_mm : float
        Where the search may end: what is farther is only known to be.

    Returns
    -------
    float64 array, shape (n,)
        In the order of ``np.argwhere(where)``.

    Examples
    --------
    >>> surface, where = np.array([[1, 0, 0], [0, 0, 0]]), np.array([[0, 0, 1], [1, 0, 1]])
    >>> distances_to_surface(surface > 0, np.array([3.0, 2.0]), where > 0).tolist()
    [4.0, 3.0, 5.0]
    """
    if surface.ndim == 2:
        surface, where = surface[np.newaxis], where[np.newaxis]
        spacing_mm = np.array([1.0, *spacing_mm])
    squared = np.empty(np.count_nonzero(where))
    surface, where = np.ascontiguousarray(surface), np.ascontiguousarray(where)
    farthest = (1.001 * farthest_mm) ** 2  # so that what lies just there is found
    _squared_distances(surface, spacing_mm, where, farthest, squared)
    return np.sqrt(squared)
