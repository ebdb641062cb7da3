"""What phantoms are made of: solids given by a signed distance, coats of paint, boundaries."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class StarShape:
    """A solid whose every slice is star-shaped around a centre line.

    Its radius R(theta, z) is that of an ellipse, modulated by smooth waves and tapered to nothing
    at both ends. The signed distance R - rho is of first order and in plane: exact along the ray
    from the centre line, not along the surface normal.

    Attributes
    ----------
    centre_mm : tuple of three float
        Middle of the centre line.
    semi_axes_mm : tuple of two float
        Of the ellipse in the widest slice.
    half_length_mm : float
        Half the extent along z; without bound for structures that pass through all slices.
    angle : float
        Rotation of the ellipse, in radians.
    lean : tuple of two float
        Shift of the centre line in x and y, mm for each mm of z.
    taper : tuple of two float
        Exponent p of the taper sqrt(1 - |u|^p) at the lower and the upper end, where u runs from
        -1 to 1 along the shape: 2 is an ellipsoid, more is blunter.
    waves : tuple of (order, amplitude, phase, twist)
        Each multiplies the radius by 1 + amplitude cos(order theta + phase + twist z), summed.
    """

    centre_mm: tuple
    semi_axes_mm: tuple
    half_length_mm: float = np.inf
    angle: float = 0.0
    lean: tuple = (0.0, 0.0)
    taper: tuple = (2.0, 2.0)
    waves: tuple = ()

    def height(self, z_mm):
        """Position u along the shape: -1 at its lower end, 1 at its upper end."""
        return (np.asarray(z_mm, dtype=np.float64) - self.centre_mm[2]) / self.half_length_mm

    def signed_distance(self, x_mm, y_mm, z_mm):
        """Distance R - rho in mm, positive inside; beyond the ends also less what z lies beyond.

        Parameters
        ----------
        x_mm, y_mm, z_mm : array_like of float
            Coordinates that broadcast to one shape.

        Returns
        -------
        ndarray of float64

        Examples
        --------
        >>> disc = StarShape((0.0, 0.0, 0.0), (3.0, 2.0), 5.0)
        >>> disc.signed_distance([0.0, 4.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 7.0])
        array([ 1.5, -1. , -2. ])
        """
        rise_mm = np.asarray(z_mm, dtype=np.float64) - self.centre_mm[2]
        x_mm = np.asarray(x_mm) - self.centre_mm[0] - self.lean[0] * rise_mm
        y_mm = np.asarray(y_mm) - self.centre_mm[1] - self.lean[1] * rise_mm
        rho_mm = np.sqrt(x_mm**2 + y_mm**2).clip(1e-9)
        a_mm, b_mm = self.semi_axes_mm
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        # The ellipse is where this quadratic form is 1; it grows with the square of rho.
        form = (
            ((cos / a_mm) ** 2 + (sin / b_mm) ** 2) * x_mm**2
            + ((sin / a_mm) ** 2 + (cos / b_mm) ** 2) * y_mm**2
            + (2 * cos * sin * (a_mm**-2 - b_mm**-2) * x_mm) * y_mm
        )
        ellipse_mm = rho_mm / np.sqrt(form.clip((1e-9 / a_mm) ** 2))
        u = self.height(z_mm)
        taper = np.sqrt(1 - np.minimum(np.abs(u), 1) ** np.where(u < 0, *self.taper))
        beyond_mm = np.maximum(np.abs(rise_mm) - self.half_length_mm, 0)
        radius_mm = taper * ellipse_mm
        if self.waves:
            radius_mm *= self._modulation((x_mm + 1j * y_mm) / rho_mm, rise_mm)
        return radius_mm - beyond_mm - rho_mm

    def _modulation(self, direction, rise_mm):
        """Factor of the radius; powers of direction = exp(i theta) spare a cosine a wave."""
        factor, power, reached = 1.0, np.ones_like(direction), 0
        for order, amplitude, phase, twist in sorted(self.waves):
            for _ in range(order - reached):
                power *= direction
            reached = order
            turn = phase + twist * rise_mm
            factor = factor + amplitude * (np.cos(turn) * power.real - np.sin(turn) * power.imag)
        return factor

    def near(self, z_mm, margin_mm):
        """Tell whether a height lies in the shape's extent along z, or within a margin of it."""
        return abs(z_mm - self.centre_mm[2]) <= self.half_length_mm + margin_mm

    def grown(self, margin_mm):
        """Return the shape with semi-axes and half length larger by `margin_mm`."""
        axes_mm = tuple(axis_mm + margin_mm for axis_mm in self.semi_axes_mm)
        half_length_mm = self.half_length_mm + margin_mm
        return replace(self, semi_axes_mm=axes_mm, half_length_mm=half_length_mm)


@dataclass(frozen=True)
class Layer:
    """One coat of paint: a tissue fills a shape over what was painted before.

    `shifted` is the shape in the fully shifted domain, where it is another one: never a boundary.
    """

    tissue: str
    shape: StarShape
    shifted: StarShape | None = None


@dataclass(frozen=True)
class Boundary:
    """A boundary that the annotator draws: what lies inside gets `label`.

    The spread of its displacement grows from `sigma_mid_mm` in the middle of the shape to
    `sigma_end_mm` at and beyond its ends, with the square of the height.
    """

    label: int
    shape: StarShape
    sigma_mid_mm: float
    sigma_end_mm: float

    def sigma_mm(self, z_mm):
        """Spread of the displacement in mm at each `z_mm`."""
        share = np.minimum(np.abs(self.shape.height(z_mm)), 1) ** 2
        return self.sigma_mid_mm + (self.sigma_end_mm - self.sigma_mid_mm) * share


@dataclass(frozen=True)
class Anatomy:
    """One patient: boundaries by falling priority, and layers in the order of painting."""

    boundaries: tuple
    layers: tuple
    correlation_mm: float
