"""What becomes of traffic while the cluster is disturbed: flows, events, limits, disturbances."""
