"""Everything about observing a cluster: API edge, agents, probes, waiting, matrices, verdicts."""
