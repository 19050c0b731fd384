"""python -m concrete_steps.corpus: print stories and the law's entropy; --write makes data/corpus anew."""

import argparse

from concrete_steps import corpus
from concrete_steps.corpus import files

parser = argparse.ArgumentParser(prog="python -m concrete_steps.corpus", description=__doc__)
parser.add_argument("--stories", type=int, default=3, help="how many stories to print")
parser.add_argument("--seed", default="0")
parser.add_argument("--write", action="store_true", help="write data/corpus")
args = parser.parse_args()

if args.write:
    files.write()
for printed in corpus.stories(args.stories, args.seed):
    print(f"{printed.text}\n    log p = {printed.log_prob:.2f} nats, {len(printed.tokens)} tokens\n")
value, error = corpus.entropy()
print(f"Entropy: {value:.4f} +- {error:.4f} nats per token (exact -log p of 2000 stories over their mean length).")
