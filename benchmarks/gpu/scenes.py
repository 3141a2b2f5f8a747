"""What is compared: a method of training, with and without packing and Liger kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scene:
    """`method` is that of spec.tuning."""

    method: str
    packing: bool = True
    liger: bool = True

    @property
    def name(self) -> str:
        """For people and for folders: "lora-packing-liger"."""
        switches = [name for name, on in (("packing", self.packing), ("liger", self.liger)) if on]
        return "-".join((self.method, *switches))


SUITE = (
    Scene("lora"),
    Scene("lora", packing=False),
    Scene("lora", liger=False),
    Scene("qlora"),
    Scene("full"),
)


def possible(scenes: tuple[Scene, ...], *, liger: bool) -> list[Scene]:
    """Where Liger kernels do not run, no scene asks for them, and none stands there twice."""
    return list(dict.fromkeys(scene if liger else replace(scene, liger=False) for scene in scenes))
