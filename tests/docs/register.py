"""What README and docs tell people to type (`pages`), who types it in a test, and what must be said then.

`tests/unit/test_docs.py` compares this with the pages: a command of theirs is in one of these tables, and
what is here is theirs still.
"""

from .shell import Said, said

_POD = r'^\{"namespace":"default","name":"a","uid":"1","node":"node1","ips":\["10\.244\.1\.10"\]\}$'
_ROW = r'^\{"ip":"10\.244\.1\.10","set":"00ff","bucket":7,"pod":"default/a"\}$'
_VERDICT = r'^\{"policy":"egress-sample","uid":"2"\}$'
_GOT_VERDICT = (r"on Subject ebbgate\.v1\.verdict\.egress-sample$", _VERDICT)
_LIVE = (
    r'Received on "ebbgate\.v1\.live\.fact\.pod\.default\.a"$',
    _POD,
    r'Received on "ebbgate\.v1\.live\.plan\.node\.node1\.endpoint\.10_244_1_10"$',
    r"^Nats-Stream: PLAN$",
    r"^traceparent: 00-",
    _ROW,
)

BUS: dict[str, Said] = {
    "nats subscribe 'ebbgate.v1.live.>'": said(*_LIVE, exits=None),
    "nats stream subjects FACT": said(r"ebbgate\.v1\.fact\.pod\.default\.a .* 1 "),
    "nats stream get STATUS --last-for ebbgate.v1.verdict.egress-sample": said(*_GOT_VERDICT),
    "nats subscribe --stream FACT --last-per-subject --terminate-at-end": said(
        r"subject: ebbgate\.v1\.fact\.pod\.default\.a ", _POD
    ),
    "nats subscribe --stream JOURNAL --since 10m --terminate-at-end": said(_POD, _ROW, _VERDICT),
    "nats subscribe --stream JOURNAL --all 'ebbgate.v1.live.plan.>'": said(
        r"seq: \d .* subject: ebbgate\.v1\.live\.plan\.node\.node1\.endpoint\.10_244_1_10 ", _ROW, exits=None
    ),
}
"""On a bus that lets everybody in: tests/bus/test_nats_tool.py."""

_NATS = "nats --tlsca bus/ca/ca.crt --nkey bus/users/reader.nk"
SECURED: dict[str, Said] = {
    f"{_NATS} subscribe 'ebbgate.v1.live.>'": said(*_LIVE, exits=None),
    f"{_NATS} --js-api-prefix ebbgate.v1.api --inbox-prefix _INBOX.reader "
    "stream get STATUS --last-for ebbgate.v1.verdict.egress-sample": said(*_GOT_VERDICT),
    f"{_NATS} --js-api-prefix ebbgate.v1.api --inbox-prefix _INBOX.reader "
    "subscribe --stream JOURNAL --since 10m --terminate-at-end": said(_POD, _ROW),
}
"""On one with TLS and a key for everybody, there, too."""

MADE: dict[str, Said] = {
    "ebbgate-usher credentials --out bus --names localhost --nodes node1,node2": said(
        "server", "programmer-node2"
    ),
    "ebbgate-usher credentials": said("^nothing is due$"),
    "ebbgate-usher credentials … --rotate": said("server"),
    "ebbgate-usher credentials --out DIR --nodes …": said("programmer-node1"),
}
"""In an empty folder: tests/bus/test_credentials.py."""

_STEERED = r"^10\.244\.1\.10 +0\.0\.0\.0/0 +10\.168\.60\.100 +10\.168\.60\.12$"
_READY = r"^policy egress-sample: ready$"
_TRACED = (
    r"^├── watcher .*: seen and stored$",
    r"node\d .* in the kernel",
    r"^└── in the last kernel after ",
)
_NO_GATEWAY = (
    r"node1 +default/mediabot 10\.244\.1\.10:\d+ → 203\.0\.113\.1:80/tcp +policy old: .*\(no_gateway\)"
)
_NO_EGRESS_IP = r"node1 +default/xwing .* → 10\.168\.60\.13:80/tcp +policy wrong-card: .*\(no_egress_ip\)"
_DROPPED = (
    r"→ 203\.0\.113\.1: DROPPED, policy old steers 203\.0\.113\.0/24, and no node can be its gateway$",
    r"policy egress-sample: less specific$",
)
_EXCLUDED = r"^default/mediabot +10\.244\.1\.10 +20\.0\.0\.0/8 +10\.168\.60\.100 by node2 .* excluded "
_TOP = r"^egress-sample +\d+ +\S+ +\d+ "

ASKED: dict[str, Said] = {
    "ebbgate status": said(
        "2 things are wrong$", "✗ policy old: NoMatchingNode: ", "2 alive on 2 nodes", exits=1
    ),
    "ebbgate list": said("^Source IP +Destination CIDR +Egress IP +Gateway IP$", _STEERED),
    "ebbgate list --node NODE": said(r"^10\.244\.1\.10 +0\.0\.0\.0/0 +0\.0\.0\.0 +10\.168\.60\.12$"),
    "ebbgate list --node node2 -o json": said(r'"EgressIP": "10\.168\.60\.100"'),
    "ebbgate policies": said(
        "^egress-sample +True ", "^old +False ", "^wrong-card +False .*no interface eth1"
    ),
    "ebbgate policies NAME": said("^policy wrong-card: not ready, NoEgressIP$"),
    "ebbgate policies [NAME]": said(_READY),
    "ebbgate policies egress-sample": said(_READY, "nodes programmed: 2 of 2$"),
    "ebbgate explain POD DESTINATION": said(*_DROPPED),
    "ebbgate explain NAMESPACE/NAME DESTINATION": said(*_DROPPED),
    "ebbgate explain default/mediabot 198.51.100.7": said("STEERED, it leaves by node2 as 10.168.60.100$"),
    "ebbgate explain default/xwing 10.168.60.13": said(
        "DROPPED, policy wrong-card steers 10.168.60.0/24, and node2 has no IPv4 egress IP for it$",
        '    node1 can\'t: label node.kubernetes.io/name is "node1", wanted "node2"$',
        '        podSelector: the pod\'s label org is "alliance", wanted "empire"$',
    ),
    "ebbgate nodes": said(
        r"^node1 +10\.168\.60\.11 +Current +2 ", r"^node2 .* Current +0 +10\.168\.60\.100 "
    ),
    "ebbgate nodes -o wide": said("DRIFT REPAIRED", "^node2 "),
    "ebbgate top": said("^POLICY ", _TOP, r"^10\.168\.60\.100 +node2 +egress-sample ", "^NODE ", exits=None),
    "ebbgate top --by policy": said(_TOP, exits=None),
    "ebbgate top --once -o json": said('"name":"egress-sample","per_second":\\{"packets":[1-9]'),
    "ebbgate drops": said(_NO_GATEWAY, _NO_EGRESS_IP, exits=None),
    "ebbgate drops --policy NAME": said(_NO_EGRESS_IP, exits=None),
    "ebbgate drops --pod NAMESPACE/NAME --seconds 10": said(_NO_GATEWAY),
    "ebbgate drops --pod default/mediabot --seconds 10": said(_NO_GATEWAY),
    "ebbgate trace": said("^pod default/mediabot ", *_TRACED),
    "ebbgate trace NAMESPACE/POD": said("^pod default/mediabot ", *_TRACED),
    "ebbgate trace POLICY": said("^policy egress-sample ", *_TRACED),
    "ebbgate trace [POLICY|POD]": said("^policy egress-sample ", *_TRACED),
    "ebbgate trace egress-sample": said("^policy egress-sample ", *_TRACED),
    "ebbgate trace default/mediabot -o json": said('"about": "pod default/mediabot"', '"kernel_ns": [1-9]'),
    "ebbgate tap --since 10m": said(r"fact\.pod +default/xwing ", r"plan\.egress +node2/", exits=None),
    "ebbgate tap --policy egress-sample --since 10m": said(r"verdict +egress-sample .*→ True", exits=None),
    "ebbgate tap --policy egress-sample --since 10m -o json": said(
        r'"subject": "ebbgate\.v1\.verdict\.egress-sample"', exits=None
    ),
    "ebbgate simulate --apply policy.yaml": said(_EXCLUDED),
    "ebbgate simulate --apply policy.yaml --delete policy/old --exit-code": said(
        _EXCLUDED, r"203\.0\.113\.0/24 +dropped \(policy old\) +10\.168\.60\.100 by node2", exits=3
    ),
    "ebbgate simulate --apply second.yaml": said(
        r"^default/mediabot +10\.244\.1\.10 +10\.168\.60\.0/24 +10\.168\.60\.100 by node2 \(policy "
        r"egress-sample\) +10\.168\.60\.12 by node2 \(policy second\)$",
        r"^default/xwing +10\.244\.1\.11 +0\.0\.0\.0/0 +not steered +10\.168\.60\.12 by node2 ",
        "^policy second: absent → OlderPolicyWins: ",
    ),
    "ebbgate simulate DIR": said(r"^No pod changes its egress\.$"),
    "ebbgate plan DIR": said(_STEERED),
    "ebbgate plan manifests/ --node node2": said(_STEERED),
    "ebbgate test FILE…": said("^passed +seed-egress-sample$", "^1 passed, 0 failed$"),
    "ebbgate test stories/*.yaml": said("^2 passed, 0 failed$"),
    "ebbgate bugreport": said(r"^ebbgate-\d+-\d+\.tar\.gz: \d+ files, "),
    "ebbgate --install-completion": said("^bash completion installed in "),
    "make help": said("^  make demo "),
    "promtool check rules deploy/monitoring/alerts.yaml": said(r"SUCCESS: \d+ rules found$"),
    "promtool test rules deploy/monitoring/alerts.test.yaml": said("SUCCESS$"),
}
"""Where the bus is, with traffic on it: tests/lab/test_what_pages_tell.py, as the next two."""

HEARD: dict[str, Said] = {
    "ebbgate tap": said(
        r"fact\.policy +old ", r"plan\.commit .* ← policy old$", "status +node1 ", exits=None
    ),
    "ebbgate tap --kind plan": said(r"plan\.writer .* epoch 1, revision \d", exits=None),
    "ebbgate tap --kind verdict": said(r"verdict +old .*Programmed False \(Waiting\) → True", exits=None),
    "ebbgate tap --kind verdict -o json": said('"payload": \\{"policy": "old"', exits=None),
}
"""While something changes."""

ON_NODES: dict[str, Said] = {
    "ebbgate-programmer doctor": said("^ok +installed ", "^ok +peers ", "^ok +nat "),
    "ebbgate-programmer clean": said(),
}

_LISTED = r"^10\.244\.\d\.\d+ +0\.0\.0\.0/0 +10\.168\.60\.100 +10\.168\.60\.12$"
_PROGRAMMED = r"^ +Normal +Programmed "
_MET = r"^ciliumegressgatewaypolicy\.cilium\.io/egress-sample condition met$"
_DEPLOYED = "^STATUS: deployed$"
_CLEANED = "is clean: nothing of Ebbgate's is in its kernel"

LOOKED: dict[str, Said] = {
    "kubectl get cegp": said(r"^egress-sample +node2 +10\.168\.60\.100 +3 +3/3 +True "),
    "kubectl describe cegp NAME": said(_PROGRAMMED),
    "kubectl describe cegp egress-sample": said(_PROGRAMMED),
    "kubectl wait cegp/egress-sample --for=condition=Programmed": said(_MET),
    "kubectl get nodes -l …": said("^node2 +Ready "),
    "kubectl get endpointslices kubernetes": said(r"^kubernetes +IPv4 +6443 +10\.168\.60\.10 "),
    "kubectl -n ebbgate get pods -o wide": said("^ebbgate-programmer-.* Running .* node1 "),
    "kubectl -n ebbgate get pods -l app.kubernetes.io/component=nats": said("^ebbgate-nats-0 .* Running "),
    "kubectl -n ebbgate get pods -l app.kubernetes.io/component=usher": said("^ebbgate-usher-.* Running "),
    "kubectl -n ebbgate get pods -l app.kubernetes.io/component=resolver": said(
        "^ebbgate-resolver-.* Running "
    ),
    "kubectl -n ebbgate get pods -l app.kubernetes.io/component=watcher": said(
        "^ebbgate-watcher-.* Running "
    ),
    "kubectl -n ebbgate get lease ebbgate-watcher -o yaml": said("^  holderIdentity: ", "^  renewTime: "),
    "kubectl -n ebbgate logs deploy/ebbgate-usher": said(r"usher\.ready"),
    "kubectl -n ebbgate exec deploy/ebbgate-cli -- ebbgate status": said("^Ebbgate .* works$"),
    "kubectl -n ebbgate exec deploy/ebbgate-cli -- ebbgate …": said(_LISTED),
    "kubectl ebbgate …": said(_LISTED),
    "ebbgate status": said("^Ebbgate .* works$", "3 alive on 3 nodes; 3 up to date$"),
    "ebbgate list": said(_LISTED),
    "ebbgate explain NAMESPACE/NAME DESTINATION": said("STEERED, it leaves by node2 as 10.168.60.100$"),
    "ebbgate tap": said("stats +node1 ", exits=None),
    "kubectl -n ebbgate exec deploy/ebbgate-cli -- ebbgate bugreport --file - > report.tar.gz": said(),
    "kubectl -n ebbgate get cronjobs,jobs": said("^cronjob.batch/ebbgate-credentials "),
    "kubectl -n ebbgate create job --from=cronjob/ebbgate-credentials now": said("^job.batch/now created$"),
    "kubectl -n ebbgate get secret ebbgate-nats-server -o jsonpath='{.data.tls\\.crt}' | base64 -d | "
    "openssl x509 -noout -enddate": said("^notAfter="),
    "ebbgate bugreport --logs ebbgate": said(r"^ebbgate-\d+-\d+\.tar\.gz: \d+ files, "),
}
"""From outside of a cluster, once Ebbgate is installed on it: tests/real_cluster/test_deployment.py."""

_HELM = "deploy/helm/ebbgate"
INSTALL_PUSHED = (
    f"helm install ebbgate {_HELM} --namespace ebbgate --wait "
    "--set image.repository=REGISTRY/ebbgate --set programmer.image.repository=REGISTRY/ebbgate-programmer"
)
INSTALL = f"helm install ebbgate {_HELM} --namespace ebbgate --create-namespace --wait"
INSTALL_ON_KIND = (
    f"helm install ebbgate {_HELM} -n ebbgate --create-namespace --wait --set programmer.bpffs.mount=true"
)
UPGRADE = f"helm upgrade ebbgate {_HELM} --namespace ebbgate --reset-then-reuse-values --wait"
CLEAN = f"helm upgrade ebbgate {_HELM} --namespace ebbgate --reuse-values --set clean=true --wait"
APPLY = "kubectl apply --server-side -f deploy/crd.yaml -f deploy/ebbgate.yaml"
APPLY_CRD = "kubectl apply --server-side --force-conflicts -f deploy/crd.yaml"
UNINSTALL = "helm uninstall ebbgate --namespace ebbgate"
LISTEN = """nats --tlsca ca.crt --token "$(cat token)" subscribe 'ebbgate.v1.live.>'"""

DEPLOYED: dict[str, Said] = {
    "kubectl create namespace ebbgate": said("^namespace/ebbgate created$"),
    "kubectl label namespace ebbgate pod-security.kubernetes.io/enforce=privileged": said("labeled$"),
    INSTALL_PUSHED: said(_DEPLOYED, "^Ebbgate .* is in namespace"),
    INSTALL: said(_DEPLOYED),
    INSTALL_ON_KIND: said(_DEPLOYED),
    "helm install … --set clean=true --wait": said(_DEPLOYED, _CLEANED),
    UPGRADE: said(_DEPLOYED),
    "helm upgrade … --set credentials.rotate=true": said(_DEPLOYED),
    CLEAN: said(_DEPLOYED, _CLEANED),
    APPLY_CRD: said(r"^customresourcedefinition\.\S+ serverside-applied$"),
    APPLY: said("/ebbgate-programmer serverside-applied$"),
    "kubectl delete -f deploy/ebbgate.yaml": said('"ebbgate-programmer" deleted'),
    UNINSTALL: said('^release "ebbgate" uninstalled$'),
    "kubectl get cegp -o yaml > policies.yaml": said(),
    "kubectl get nodes,namespaces,pods -A -o yaml": said(),
    "ebbgate plan": said(r"^10\.244\.\d\.\d+ +0\.0\.0\.0/0 "),
    "kubectl -n ebbgate delete pod …": said('^pod "ebbgate-programmer-.*" deleted'),
    "kubectl create token ebbgate-reader -n ebbgate --audience ebbgate-nats > token": said(),
    "ebbgate --nats-ca ca.crt --nats-token token list": said(_LISTED),
    LISTEN: said(r'Received on "ebbgate\.v1\.live\.stats\.node\d"$', exits=None),
    "kubectl delete pvc -n ebbgate -l app.kubernetes.io/name=ebbgate": said(
        '^persistentvolumeclaim ".*" deleted'
    ),
    "kubectl delete pvc -n ebbgate -l app.kubernetes.io/component=nats": said(
        '^persistentvolumeclaim ".*" deleted'
    ),
    "kubectl delete secret -n ebbgate -l app.kubernetes.io/part-of=ebbgate": said(
        '^secret "ebbgate-nats-authority" deleted', '^secret "ebbgate-nats-server" deleted'
    ),
    "kubectl delete lease -n ebbgate ebbgate-watcher": said('^lease.* "ebbgate-watcher" deleted'),
}
"""On its way from the first installation to the last trace, there, too."""

NOTED: dict[str, Said] = {
    "kubectl -n ebbgate exec -it deploy/ebbgate-cli -- ebbgate status": said("^Ebbgate .* works$"),
    "kubectl label node NODE egress-gateway=true": said("labeled$"),
    """kubectl apply -f - <<EOF
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: {name: try}
spec:
  selectors:
    - podSelector: {matchLabels: {app: egress}}
  destinationCIDRs: [0.0.0.0/0]
  egressGateway:
    nodeSelector: {matchLabels: {egress-gateway: "true"}}
EOF""": said("/try created$"),
    "kubectl wait cegp/try --for=condition=Programmed --timeout=30s": said("/try condition met$"),
    "kubectl describe cegp try": said(_PROGRAMMED),
    "kubectl -n ebbgate exec -it deploy/ebbgate-cli -- ebbgate list": said(_LISTED),
    "kubectl -n ebbgate exec -it deploy/ebbgate-cli -- ebbgate top": said(_TOP, exits=None),
    "kubectl -n ebbgate exec POD-OF-THE-PROGRAMMER -- ebbgate-programmer doctor": said("^ok +installed "),
    "kubectl -n ebbgate rollout status daemonset/ebbgate-programmer": said("successfully rolled out$"),
}
"""What Helm says after an installation, beside what pages tell; there, too."""

BY_CI = ("make test", "make check", "make setup")
"""`.ci/run` is the first of them, and that is made of the others."""

NOT_RUN: dict[str, tuple[str, ...]] = {
    "others' own, on a node: what they show or do to us is what tests/kernel does by the same programs": (
        "ip address",
        "ip rule",
        "nft -f -",
        "nft flush ruleset",
    ),
    "looks at a node's packets, which people read": (
        "tcpdump -ni ebbgate0",
        "tcpdump -ni eth0 udp port 19021",
    ),
    "a word of a sentence: whole commands of the kind are run": (
        "ebbgate test",
        "helm install",
        "helm template",
        "helm uninstall",
        "helm upgrade",
        "kubectl apply",
        "kubectl drain",
        "kubectl wait --for=condition=Programmed",
    ),
    "needs an engine, a registry, kind, or Cilium, which aren't here": (
        "podman build -f deploy/images/Containerfile --target ebbgate -t REGISTRY/ebbgate:0.1.0 .",
        "podman build -f deploy/images/Containerfile --target programmer "
        "-t REGISTRY/ebbgate-programmer:0.1.0 .",
        "podman load",
        "kind create cluster --config - <<EOF\nkind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
        "nodes: [{role: control-plane}, {role: worker}, {role: worker}]\nEOF",
        "for image in ebbgate programmer; do kind load image-archive build/images/$image.tar; done",
        "kind load image-archive",
        "helm upgrade cilium … --set egressGateway.enabled=false",
        "cilium status",
        "cilium sysdump",
        "cilium-dbg bpf egress list",
        "ctr -n k8s.io images import",
        "docker load",
        "hubble observe --verdict DROPPED",
    ),
    "needs an older version: tests/real_cluster/mixed_versions.py has one, and goes back to it": (
        "helm rollback",
        "helm rollback ebbgate --namespace ebbgate --wait",
    ),
    "the chart's pods and its job are these commands: tests/real_cluster/test_deployment.py installs it": (
        "ebbgate-usher serve --issuer FILE",
        "ebbgate-usher reload --pid-file FILE FILES…",
        "ebbgate-usher credentials --namespace ebbgate "
        "--names ebbgate-nats.ebbgate.svc,*.ebbgate-nats-servers.ebbgate.svc",
    ),
    "the job is there while it runs, and after it failed": (
        "kubectl -n ebbgate logs job/ebbgate-credentials-setup",
    ),
    "has the names that a person's own lab has; tests/lab and tests/real_cluster tell the same stories": (
        "make demo",
        "make demo KEEP=1",
        "make demo SOURCE=kubernetes",
        "make demo SOURCE=cluster",
        "make demo SOURCE=cluster KEEP=1",
        "make down",
        "make cluster",
        "make cluster-down",
    ),
    "what it writes is compared with the repository's files by tests": ("make reference", "make manifest"),
    "the archives that tests/real_cluster/test_deployment.py installs are made by what it calls": (
        "make images",
    ),
    "writes a file of the repository, which people look at before they keep it": (
        "make lock",
        "make picture",
        "make trace",
    ),
    "takes minutes to hours, and a machine of its own": (
        "make bench",
        "make bench-datapath",
        "make bench-resolver",
        "make bench-watcher",
        ".venv/bin/python -m bench.tracing",
        "make soak",
        "make soak-images",
        "make soak-kernel",
        "make soak-versions",
        "python -m ebbgate_lab.hunt --seed N --seconds S",
    ),
}
"""Why not → commands."""
