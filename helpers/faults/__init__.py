"""Faults as code: reversible changes to a live cluster that must turn named requirements red.

``plans``        what a fault does: ``@plants("F11")`` on a function from a Bench to a Plan
``changes``      the changes a plan is made of, as data: what a killed process left can be healed
``objects``      the same for objects of the Kubernetes API
``bench``        the cluster as a fault sees it
``planting``     journal first, then inject, wait, heal, verify
``expectations`` what must and what may turn red: ``suites/faults.yaml``, read strictly
``comparison``   expected against observed verdicts
``grouping``     which faults can be planted together

The other modules hold the faults themselves, one subject each; ``catalogue`` imports them all.
"""
