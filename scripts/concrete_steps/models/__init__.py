"""The course's models: SmolLM2 and GPT-2 (fetched once, then cached), and the small ones that come with the course.

Each arrives as a TransformerBridge in evaluation mode. Importing this is quick: torch and TransformerLens load on use.
"""

from concrete_steps.models.gpt2_model import gpt2, gpt2_hf
from concrete_steps.models.shipped import checkpoints, datasheet, load, names
from concrete_steps.models.smollm2_model import smollm2, smollm2_hf

__all__ = ["checkpoints", "datasheet", "gpt2", "gpt2_hf", "load", "names", "smollm2", "smollm2_hf"]
