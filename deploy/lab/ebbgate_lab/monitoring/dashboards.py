"""The dashboards: overview, policy, node, data plane. From what everybody asks to what few do."""

from ebbgate_lab.monitoring.panels import Dashboard, Panel, Query, Variable

_LAGS = (
    ("watcher", "fact stored"),
    ("resolver", "plan stored"),
    ("programmer", "in the kernel"),
)


def _quantile(metric: str, by: str = "", share: float = 0.99, where: str = "") -> str:
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({metric}_bucket{where}[$__rate_interval])))"


def _rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


def _stat(title: str, says: str, expr: str, *, bad: float | None = None) -> Panel:
    return Panel(title=title, says=says, queries=(Query(expr),), kind="stat", width=4, bad=bad)


_OF_POLICY = '{policy=~"$policy"}'
_OF_NODE = '{node=~"$node"}'

OVERVIEW = Dashboard(
    uid="ebbgate-overview",
    title="Ebbgate / Overview",
    says="Does it work, and how fast does a change reach the kernels?",
    panels=(
        _stat("Policies ready", "Of all that exist.", "sum(ebbgate_resolver_policy_ready)"),
        _stat(
            "Policies not ready",
            "Their pods' traffic may be dropped: `ebbgate policies` says why.",
            "count(ebbgate_resolver_policy_ready == 0) or vector(0)",
            bad=1,
        ),
        _stat(
            "Nodes behind",
            "They haven't applied the last plan yet; for a moment after each change this is normal.",
            'sum(ebbgate_resolver_nodes{state="behind"})',
            bad=1,
        ),
        _stat(
            "Nodes silent",
            "No programmer has ever reported from there.",
            'sum(ebbgate_resolver_nodes{state="silent"})',
            bad=1,
        ),
        _stat(
            "Problems on nodes",
            "What kernels wouldn't take: `ebbgate nodes` names it.",
            "sum(ebbgate_programmer_problems)",
            bad=1,
        ),
        _stat(
            "Parts without a bus",
            "Data goes on; changes wait.",
            "count(ebbgate_bus_connected == 0) or vector(0)",
            bad=1,
        ),
        Panel(
            title="From an event to …, p99",
            says="Since the watcher saw it. The last one is what users feel.",
            queries=tuple(
                Query(_quantile(f"ebbgate_{service}_lag_seconds"), legend) for service, legend in _LAGS
            ),
            unit="s",
        ),
        Panel(
            title="Traffic by policy",
            says="Of the policies' pods, by the tunnel and out of their own nodes.",
            queries=(Query(f"8 * {_rate('ebbgate_programmer_policy_bytes_total', 'policy')}", "{{policy}}"),),
            unit="bps",
        ),
        Panel(
            title="Drops by policy and reason",
            says="Packets of pods that a policy chooses and that can't be served: see `ebbgate drops`.",
            queries=(
                Query(
                    _rate("ebbgate_programmer_policy_drops_total", "policy, reason"),
                    "{{policy}}: {{reason}}",
                ),
            ),
            unit="pps",
        ),
        Panel(
            title="Who leads",
            says="One watcher publishes and one resolver writes; the others stand by.",
            queries=(
                Query("sum(ebbgate_watcher_leader)", "watchers that publish"),
                Query("sum(ebbgate_resolver_leader)", "resolvers that write"),
            ),
        ),
        Panel(
            title="Changes of the plan",
            says="Messages stored: rows, Commits and the writer.",
            queries=(
                Query("sum(rate(ebbgate_resolver_messages_stored_total[$__rate_interval]))", "messages"),
            ),
            unit="ops",
        ),
        Panel(
            title="Memory",
            says="Of each process.",
            queries=(
                Query(
                    "process_resident_memory_bytes and on (instance) ebbgate_bus_connected", "{{instance}}"
                ),
            ),
            unit="bytes",
        ),
        Panel(
            title="Versions",
            says="More than one of a service: an upgrade is under way, or stuck.",
            queries=(Query("count by (service, version) (ebbgate_build_info)"),),
            kind="table",
            width=24,
        ),
    ),
)

POLICY = Dashboard(
    uid="ebbgate-policy",
    title="Ebbgate / Policy",
    says="One policy: is it in force, how much traffic has it, what is dropped and why?",
    variables=(Variable("policy", "label_values(ebbgate_resolver_policy_ready, policy)"),),
    panels=(
        Panel(
            title="Conditions",
            says="1: True. Ready needs Accepted, GatewayFound, EgressIPReady and Programmed.",
            queries=(
                Query(f"max by (policy, condition, reason) (ebbgate_resolver_policy_condition{_OF_POLICY})"),
            ),
            kind="table",
            width=24,
        ),
        Panel(
            title="Nodes",
            says="How many must hold its rows, and how many do.",
            queries=(
                Query(
                    f"max by (policy) (ebbgate_resolver_policy_nodes_wanted{_OF_POLICY})", "{{policy}} wanted"
                ),
                Query(
                    f"max by (policy) (ebbgate_resolver_policy_nodes_programmed{_OF_POLICY})",
                    "{{policy}} programmed",
                ),
            ),
        ),
        Panel(
            title="Pods and gateways",
            says="What it chooses, and who serves it.",
            queries=(
                Query(f"max by (policy) (ebbgate_resolver_policy_pods{_OF_POLICY})", "{{policy}} pods"),
                Query(
                    f"max by (policy) (ebbgate_resolver_policy_gateways{_OF_POLICY})", "{{policy}} gateways"
                ),
            ),
        ),
        Panel(
            title="Traffic",
            says="steered: into the tunnel; local: pods on their own gateway.",
            queries=(
                Query(
                    f"8 * {_rate('ebbgate_programmer_policy_bytes_total', 'policy, way', _OF_POLICY)}",
                    "{{policy}} {{way}}",
                ),
            ),
            unit="bps",
        ),
        Panel(
            title="Packets",
            says="The same, in packets.",
            queries=(
                Query(
                    _rate("ebbgate_programmer_policy_packets_total", "policy, way", _OF_POLICY),
                    "{{policy}} {{way}}",
                ),
            ),
            unit="pps",
        ),
        Panel(
            title="New connections",
            says="Those that were steered.",
            queries=(
                Query(
                    _rate("ebbgate_programmer_policy_connections_total", "policy", _OF_POLICY), "{{policy}}"
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Drops",
            says="By reason; docs/troubleshooting.md says what to do about each.",
            queries=(
                Query(
                    _rate("ebbgate_programmer_policy_drops_total", "policy, reason", _OF_POLICY),
                    "{{policy}}: {{reason}}",
                ),
            ),
            unit="pps",
        ),
        Panel(
            title="Traffic by node of the pods",
            says="Where the policy's pods send from.",
            queries=(
                Query(
                    f"8 * {_rate('ebbgate_programmer_policy_bytes_total', 'node', _OF_POLICY)}", "{{node}}"
                ),
            ),
            unit="bps",
            width=24,
        ),
    ),
)

NODE = Dashboard(
    uid="ebbgate-node",
    title="Ebbgate / Node",
    says="One node's programmer: how it keeps up, what it spends its time with, what it can't do.",
    variables=(Variable("node", "label_values(ebbgate_programmer_ready, node)"),),
    panels=(
        _stat("Ready", "Nodes with a plan in the kernel.", f"sum(ebbgate_programmer_ready{_OF_NODE})"),
        _stat(
            "Problems", "`ebbgate nodes` names them.", f"sum(ebbgate_programmer_problems{_OF_NODE})", bad=1
        ),
        _stat(
            "Drift repaired in an hour",
            "Something else on the node changes what is ours: `ebbgate-programmer doctor` looks for it.",
            f"sum(increase(ebbgate_programmer_drift_repairs_total{_OF_NODE}[1h]))",
            bad=1,
        ),
        _stat(
            "Since the last look",
            "At the kernel, in seconds.",
            f"max(time() - ebbgate_programmer_last_pass_timestamp_seconds{_OF_NODE})",
            bad=180,
        ),
        _stat(
            "Plans read anew",
            "Rows that disagreed with their Commit.",
            f"sum(increase(ebbgate_programmer_plan_disagreements_total{_OF_NODE}[1h]))",
            bad=1,
        ),
        _stat(
            "Interruptions of the bus",
            "Of all services, in an hour.",
            "sum(increase(ebbgate_bus_interruptions_total[1h]))",
            bad=10,
        ),
        Panel(
            title="From an event to this kernel",
            says="p50 and p99.",
            queries=(
                Query(_quantile("ebbgate_programmer_lag_seconds", "node", 0.5, _OF_NODE), "{{node}} p50"),
                Query(_quantile("ebbgate_programmer_lag_seconds", "node", 0.99, _OF_NODE), "{{node}} p99"),
            ),
            unit="s",
        ),
        Panel(
            title="Passes over the kernel",
            says="changed: a plan came; repaired: drift; lacking: not all could be done.",
            queries=(
                Query(
                    _rate("ebbgate_programmer_passes_total", "node, result", _OF_NODE), "{{node}} {{result}}"
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Time by stage",
            says="Share of a core, where a pass spends it: a trace shows single ones.",
            queries=(Query(_rate("ebbgate_programmer_stage_seconds_total", "stage", _OF_NODE), "{{stage}}"),),
            unit="percentunit",
        ),
        Panel(
            title="Time of a pass, p99",
            says="All stages together.",
            queries=(
                Query(_quantile("ebbgate_programmer_pass_seconds", "node", 0.99, _OF_NODE), "{{node}}"),
            ),
            unit="s",
        ),
        Panel(
            title="What the kernel holds",
            says="As read back from it.",
            queries=(
                Query(f"sum by (node, kind) (ebbgate_programmer_entries{_OF_NODE})", "{{node}} {{kind}}"),
            ),
        ),
        Panel(
            title="Changes to the kernel",
            says="By kind.",
            queries=(Query(_rate("ebbgate_programmer_changes_total", "change", _OF_NODE), "{{change}}"),),
            unit="ops",
        ),
        Panel(
            title="Revisions in the kernel",
            says="Lines that part from the resolver's: a node that doesn't keep up.",
            queries=(
                Query(f"max by (node, scope) (ebbgate_programmer_revision{_OF_NODE})", "{{node}} {{scope}}"),
                Query("max(ebbgate_resolver_revision)", "the plan's"),
            ),
            width=24,
        ),
    ),
)

DATAPLANE = Dashboard(
    uid="ebbgate-dataplane",
    title="Ebbgate / Data plane",
    says="Packets: through which egress IP, how many, and which are dropped where.",
    variables=(Variable("node", "label_values(ebbgate_programmer_ready, node)"),),
    panels=(
        Panel(
            title="Traffic by egress IP",
            says="What arrives by the tunnel at its gateway.",
            queries=(
                Query(
                    f"8 * {_rate('ebbgate_programmer_egress_bytes_total', 'egress_ip, node', _OF_NODE)}",
                    "{{egress_ip}} on {{node}}",
                ),
            ),
            unit="bps",
        ),
        Panel(
            title="Packets by egress IP",
            says="The same, in packets.",
            queries=(
                Query(
                    _rate("ebbgate_programmer_egress_packets_total", "egress_ip, node", _OF_NODE),
                    "{{egress_ip}} on {{node}}",
                ),
            ),
            unit="pps",
        ),
        Panel(
            title="Drops by reason",
            says="Of whichever policy; docs/troubleshooting.md says what to do about each.",
            queries=(Query(_rate("ebbgate_programmer_drops_total", "reason", _OF_NODE), "{{reason}}"),),
            unit="pps",
        ),
        Panel(
            title="Drops by node",
            says="Where they are dropped: often where something is missing.",
            queries=(Query(_rate("ebbgate_programmer_drops_total", "node", _OF_NODE), "{{node}}"),),
            unit="pps",
        ),
        Panel(
            title="Ports exhausted",
            says="New connections that found no free port of their egress IP: give the policy more of them.",
            queries=(
                Query(
                    _rate(
                        "ebbgate_programmer_drops_total",
                        "node",
                        '{node=~"$node", reason="ports_exhausted"}',
                    ),
                    "{{node}}",
                ),
            ),
            unit="pps",
        ),
        Panel(
            title="Sent by nodes",
            says="steered: into the tunnel; local: out of the pods' own node.",
            queries=(
                Query(
                    f"8 * {_rate('ebbgate_programmer_policy_bytes_total', 'node, way', _OF_NODE)}",
                    "{{node}} {{way}}",
                ),
            ),
            unit="bps",
        ),
        Panel(
            title="New connections by node",
            says="Those that were steered.",
            queries=(
                Query(_rate("ebbgate_programmer_policy_connections_total", "node", _OF_NODE), "{{node}}"),
            ),
            unit="ops",
            width=24,
        ),
    ),
)

ALL = (OVERVIEW, POLICY, NODE, DATAPLANE)
