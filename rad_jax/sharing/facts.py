"""What a model card is written from: the record of a model, and what was measured."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rad_jax.evaluate.results import Record

LAMA, UPSAMPLER, RAD, PLAIN = "LaMa", "upsampler", "RAD", "plain"

NETWORKS = {"adm": "ADM", "ncsnpp": "NCSN++", "lama": LAMA}
"""What people call the architectures of a record, which names none of an ADM."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a card is written from.

    Attributes:
      repo: owner and name, where the model will be.
      license: its identifier on the Hub, which its author gives; "" for none yet.
      record: of the model, as `model.json` has it.
      parameters: how many, and of which types.
      copy: what is said of the copy in safetensors; "" where there is none.
      evaluations: of the model, as `evaluate` wrote them.
    """

    repo: str
    license: str
    record: Mapping[str, Any]
    parameters: str
    copy: str = ""
    evaluations: Sequence[Record] = ()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the model comes from."""
        return block(self.record, "provenance")

    @property
    def training(self) -> Mapping[str, Any]:
        """The config of its training; empty where it is not known."""
        return block(self.provenance, "training")

    @property
    def kind(self) -> str:
        """What sort of model it is."""
        if self.record.get("architecture") == "lama":
            return LAMA
        config = self.record["model"]
        if config.get("in_channels", 3) != config.get("out_channels", 3):
            return UPSAMPLER
        return PLAIN if block(self.record, "schedule").get("known_steps") == 0 else RAD

    @property
    def network(self) -> str:
        """What its architecture is called."""
        name = str(self.record.get("architecture", "adm"))
        return NETWORKS.get(name, text_of(name))


def data_of(facts: Facts) -> str:
    """What the model was trained on, as far as it is known."""
    data = block(facts.training, "data").get("name") or facts.provenance.get("data")
    if data == "folder":
        return "a folder of pictures that was not named"
    return f"the data set `{text_of(data)}`" if data else "data that was not recorded"


def block(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A block of a record, empty if it is none: whoever wrote it may be anybody."""
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def text_of(value: Any) -> str:
    """A value within a line of Markdown: what it was recorded as may be anything."""
    text = " ".join(str(value).split()).replace("](", "]\\(")[:200]
    return "".join(f"\\{char}" if char in "|<>`" else char for char in text)
