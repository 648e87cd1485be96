"""The checks of :mod:`ase_equivariant.testing` on another package's calculator, in that package's environment.

``PYTHONPATH=REPOSITORY python conformance.py KIND MODEL [CHECK ...]`` with KIND and MODEL as ``worker.py``'s, or with
``ase`` and ``MODULE:CLASS`` for a calculator of ASE.
"""

import sys
from importlib import import_module

import worker

from ase_equivariant.testing.conformance import CHECKS, Subject, run_check


def of_ase(name):
    module, _, calculator = name.partition(":")
    return getattr(import_module(module), calculator)()


def main():
    kind, model, *names = sys.argv[1:]
    made_by = {
        "ours": worker.ours,
        "sevenn": worker.sevenn,
        "nequip": worker.nequip,
        "mace": worker.mace,
        "ase": of_ase,
    }
    make = made_by[kind]
    # Random weights differ from one network to the next, so that copies of one are compared.
    subject = Subject(make(model) if kind == "mace" else lambda: make(model))
    print(f"{subject.name} on {subject.plain().symbols}", file=worker.answers, flush=True)
    for name in names or CHECKS:
        outcome = run_check(name, subject)
        print(f"{outcome.state:<12} {name:<24} {outcome.message}", file=worker.answers, flush=True)


if __name__ == "__main__":
    main()
