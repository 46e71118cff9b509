"""kube-proxy in ipvs mode: what a node's kernel must hold, what it holds, and the difference."""
