"""Policy: truth tables of who may reach whom, and the pods that they are tried on.

=============  ====================================================================================
module         what it has
=============  ====================================================================================
``objects``    NetworkPolicies and Calico's policies as manifests
``bench``      pods that policies are tried on, shared by all policy tests of a worker
``table``      a truth table, and how it is judged: control, in force, stays
``services``   tables through clusterIPs and NodePorts
``dns``        tables of questions to the cluster's DNS servers
``packets``    tables of forged packets
``evasion``    UDP datagrams written so that a filter might not recognise them
``node``       what a pod and its own node keep: neighbours, kubelet's probes
=============  ====================================================================================
"""
