"""A real Kubernetes on this machine: control plane, kubelets with containerd, kube-proxy, an external host.

Each node has network, mount, PID, UTS and IPC namespaces of its own, and a cgroup; nothing else tells it from
a machine. `cluster.py` is the whole, `node.py` a node seen from outside, `inside.py` what runs as its PID 1.
"""
