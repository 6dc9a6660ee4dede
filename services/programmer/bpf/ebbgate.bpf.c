/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a packet goes. nftables says who is asked at all and does NAT; these programs only look up.
 *
 * classify  lwt_in, on the route that nft's mark RECLASS leads to: sets the final mark, or drops
 * encap     egress of ebbgate0: says which gateway and slot the tunnel packet is for, or drops
 * decap     ingress of ebbgate0: refuses strangers, turns the tunnel's VNI into the slot's mark
 * take      ingress of the uplinks: the tunnel's packets go straight to ebbgate0 (direct.h)
 * guard     egress of the uplinks: what got there past nftables doesn't leave
 *
 * The last four are attached by tcx, or as filters under clsact (ebbgate_programmer/io/attachments.py).
 * Whatever isn't found is dropped (fail closed): no packet leaves here with an address nobody chose.
 */
#include "direct.h"
#include "packet.h"

/* As much of the struct as every kernel takes: before 6.0 it ends before the local address. */
#define TUNNEL_KEY_BYTES offsetof(struct bpf_tunnel_key, tunnel_label)

enum answer {
	ANSWER_STEER,
	ANSWER_EXCLUDE,
	ANSWER_DROP
};

/* The decision of core/decisions.py, from the same three tables. */
static __always_inline enum answer decide(struct __sk_buff *skb, struct packet *packet)
{
	struct endpoint *source = bpf_map_lookup_elem(&endpoint, &packet->source);
	struct route_question to = {.key.prefixlen = 64 + 128};
	struct path_key by = {};
	struct route *way;

	if (!source) {
		drop(skb, packet, DROP_NO_ENDPOINT);
		return ANSWER_DROP;
	}
	*(eight *)&to.key.set_high = bpf_cpu_to_be64(source->set);
	copy(&to.key.destination, &packet->destination);
	way = bpf_map_lookup_elem(&route, &to.key);
	if (!way || way->action == ACTION_EXCLUDE)
		return ANSWER_EXCLUDE;
	packet->group = way->group;
	if (way->action != ACTION_STEER) {
		drop(skb, packet, DROP_ROUTE);
		return ANSWER_DROP;
	}
	by.group = way->group;
	by.bucket = source->bucket;
	packet->path = bpf_map_lookup_elem(&path, &by);
	if (packet->path && packet->path->slot >= SLOT_MIN)
		return ANSWER_STEER;
	drop(skb, packet, packet->path ? DROP_NO_EGRESS_IP : DROP_NO_PATH);
	return ANSWER_DROP;
}

/* Asked at the first packet of a connection; the others go by its conntrack mark. */
SEC("lwt_in")
int classify(struct __sk_buff *skb)
{
	struct packet packet = {};

	if (!parse(skb, 0, &packet)) {
		count(DROP_NOT_IP);
		return BPF_DROP;
	}
	switch (decide(skb, &packet)) {
	case ANSWER_EXCLUDE:
		count(COUNT_EXCLUDED);
		set_mark(skb, MARK_PASSED);
		return BPF_LWT_REROUTE;
	case ANSWER_STEER:
		if (!packet.path)
			return BPF_DROP;
		if (packet.path->flags & PATH_LOCAL) {
			count(COUNT_LOCAL);
			count_group(packet.group, COUNT_LOCAL, skb->len);
			set_mark(skb, packet.path->slot);
		} else {
			count_group(packet.group, TRAFFIC_CONNECTIONS, skb->len);
			set_mark(skb, MARK_STEER);
		}
		return BPF_LWT_REROUTE;
	default:
		return BPF_DROP;
	}
}

static __always_inline bool is_mapped(struct address *at)
{
	return !at->word[0] && !at->word[1] && at->word[2] == bpf_htonl(0xffff);
}

/* The outer packet would inherit the mark and be steered again: it is cleared here, entirely. */
static __always_inline int send_to(struct __sk_buff *skb, struct packet *packet, struct address *remote,
				   __u32 vni)
{
	struct tunnel to = {.key = {.tunnel_id = vni, .tunnel_ttl = OUTER_TTL}};
	__u64 flags = BPF_F_ZERO_CSUM_TX;
	int sent;

	if (is_mapped(remote)) {
		sent = send_direct(skb, packet, remote->word[3], vni);
		if (sent)
			return sent;
		to.key.remote_ipv4 = bpf_ntohl(remote->word[3]);
	} else {
		/* UDP over IPv6 has no "no checksum" that every receiver takes. */
		copy(to.key.remote_ipv6, remote);
		flags = BPF_F_TUNINFO_IPV6;
	}
	if (bpf_skb_set_tunnel_key(skb, &to.key, TUNNEL_KEY_BYTES, flags))
		return EBB_TCX_DROP;
	skb->mark = 0;
	return EBB_TCX_NEXT;
}

static __always_inline int send_original(struct __sk_buff *skb, struct packet *packet)
{
	/* Looked up again, not carried from classify: 12 bits of mark have no room for gateway and slot. */
	if (decide(skb, packet) != ANSWER_STEER || !packet->path || packet->path->flags & PATH_LOCAL) {
		count(DROP_NO_PATH);
		return EBB_TCX_DROP;
	}
	count(COUNT_STEERED);
	count_group(packet->group, COUNT_STEERED, skb->len);
	return send_to(skb, packet, &packet->path->gateway, packet->path->slot);
}

static __always_inline int send_reply(struct __sk_buff *skb, struct packet *packet)
{
	struct address *back = bpf_map_lookup_elem(&returns, &packet->destination);

	if (!back) {
		drop(skb, packet, DROP_NO_RETURN);
		return EBB_TCX_DROP;
	}
	count(COUNT_REPLIED);
	return send_to(skb, packet, back, VNI_REPLY);
}

SEC("tc")
int encap(struct __sk_buff *skb)
{
	__u32 field = field_of(skb->mark);
	struct packet packet = {};

	if (!parse(skb, ETH_HLEN, &packet)) {
		count(DROP_NOT_IP);
		return EBB_TCX_DROP;
	}
	if (field == MARK_STEER)
		return send_original(skb, &packet);
	if (field == MARK_REPLY)
		return send_reply(skb, &packet);
	count(DROP_NO_MARK);
	return EBB_TCX_DROP;
}

static __always_inline bool is_same(struct address *one, struct address *other)
{
	return one->word[0] == other->word[0] && one->word[1] == other->word[1] &&
	       one->word[2] == other->word[2] && one->word[3] == other->word[3];
}

/* Most packets find their own entry: a write for each would take the LRU's locks for nothing. */
static __always_inline void remember(struct address *pod, struct address *from)
{
	struct address *known = bpf_map_lookup_elem(&returns, pod);

	if (!known || !is_same(known, from))
		bpf_map_update_elem(&returns, pod, from, BPF_ANY);
}

static __always_inline bool is_slot(__u32 vni)
{
	return vni >= SLOT_MIN && vni <= SLOT_MAX;
}

static __always_inline void welcome(struct packet *packet, __u32 vni, struct address *from, __u32 bytes)
{
	struct traffic *of_slot;

	count(COUNT_ARRIVED);
	if (!is_slot(vni))
		return;
	remember(&packet->source, from);
	of_slot = bpf_map_lookup_elem(&slots, &vni);
	if (of_slot)
		add(of_slot, bytes);
}

static __always_inline int arrive(struct __sk_buff *skb, __u32 vni, struct address *from)
{
	struct packet packet = {};

	if (!parse(skb, ETH_HLEN, &packet)) {
		count(DROP_NOT_IP);
		return EBB_TCX_DROP;
	}
	if (!is_slot(vni) && vni != VNI_REPLY) {
		drop(skb, &packet, DROP_BAD_VNI);
		return EBB_TCX_DROP;
	}
	welcome(&packet, vni, from, skb->len);
	skb->mark = is_slot(vni) ? mark_of(vni) : 0;
	/* Each ebbgate0 has its own MAC, and the sender wrote its own into both fields: say it is for us. */
	bpf_skb_change_type(skb, PACKET_HOST);
	return EBB_TCX_NEXT;
}

/* No tunnel brought it: `take` put it here, and said by the mark what it is. Nobody else can. */
static __always_inline int arrive_direct(struct __sk_buff *skb)
{
	__u32 field = field_of(skb->mark);

	if (field != MARK_PASSED && !is_slot(field))
		return EBB_TCX_DROP;
	if (field == MARK_PASSED)
		skb->mark = 0;
	bpf_skb_change_type(skb, PACKET_HOST);
	return EBB_TCX_NEXT;
}

/* Whether the packet came by a tunnel, and from where. */
static __always_inline bool sender(struct __sk_buff *skb, struct tunnel *by, struct address *from)
{
	if (!bpf_skb_get_tunnel_key(skb, &by->key, TUNNEL_KEY_BYTES, 0)) {
		map_v4(from, bpf_htonl(by->key.remote_ipv4));
		return true;
	}
	if (bpf_skb_get_tunnel_key(skb, &by->key, TUNNEL_KEY_BYTES, BPF_F_TUNINFO_IPV6))
		return false;
	copy(from, by->key.remote_ipv6);
	return true;
}

SEC("tc")
int decap(struct __sk_buff *skb)
{
	struct tunnel by = {};
	struct packet stranger = {};
	struct address from ON_EIGHTS;

	if (!sender(skb, &by, &from))
		return arrive_direct(skb);
	if (!bpf_map_lookup_elem(&peer, &from)) {
		parse(skb, ETH_HLEN, &stranger);
		copy(&stranger.source, &from); /* who sent it says more than what it claims to be */
		drop(skb, &stranger, DROP_UNKNOWN_PEER);
		return EBB_TCX_DROP;
	}
	return arrive(skb, by.key.tunnel_id, &from);
}

/* What `take` needs of a tunnel packet. */
struct arrival {
	struct address from ON_EIGHTS;
	struct address to ON_EIGHTS;
	struct packet packet;
	__u32 vni;
	__be16 protocol;
};

/* False: it isn't a single packet from a peer to us, or not one to be taken out of its line. */
static __always_inline bool is_for_us(struct __sk_buff *skb, struct arrival *arrival, __be16 port)
{
	struct outer outer ON_EIGHTS;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &outer, OUTER_BYTES) ||
	    !is_plain(&outer, skb->len - ETH_HLEN, port))
		return false;
	map_v4(&arrival->from, outer.ip.saddr);
	map_v4(&arrival->to, outer.ip.daddr);
	arrival->vni = bpf_ntohl(outer.vni) >> 8;
	arrival->protocol = outer.inner.h_proto;
	return (is_slot(arrival->vni) || arrival->vni == VNI_REPLY) &&
	       bpf_map_lookup_elem(&peer, &arrival->from) && bpf_map_lookup_elem(&own, &arrival->to) &&
	       parse_as(skb, arrival->protocol, ETH_HLEN + OUTER_BYTES, &arrival->packet) &&
	       may_overtake(skb, &arrival->packet);
}

SEC("tc")
int take(struct __sk_buff *skb)
{
	struct direct *by = direct_way();
	struct arrival arrival = {};
	__be16 protocol;

	if (!by || skb->gso_size || skb->vlan_present || skb->pkt_type != PACKET_HOST ||
	    skb->protocol != bpf_htons(ETH_P_IP) || !is_for_us(skb, &arrival, by->port))
		return EBB_TCX_NEXT;
	if (bpf_skb_adjust_room(skb, -(__s32)OUTER_BYTES, BPF_ADJ_ROOM_MAC, 0))
		return EBB_TCX_NEXT;
	protocol = arrival.protocol;
	if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol), 0))
		return EBB_TCX_DROP;
	welcome(&arrival.packet, arrival.vni, &arrival.from, skb->len);
	skb->mark = mark_of(is_slot(arrival.vni) ? arrival.vni : MARK_PASSED);
	return bpf_redirect(by->device, BPF_F_INGRESS);
}

static __always_inline bool is_in_cluster(struct address *destination)
{
	struct cluster_question to = {.key.prefixlen = 128};

	copy(&to.key.destination, destination);
	return bpf_map_lookup_elem(&cluster, &to.key);
}

static __always_inline bool is_multicast(struct address *at)
{
	return at->word[2] == bpf_htonl(0xffff) ? (bpf_ntohl(at->word[3]) >> 28) == 0xe
						: (bpf_ntohl(at->word[0]) >> 24) == 0xff;
}

/*
 * mark     what the packet must be                             else
 * none     not a covered pod's own, or stay in the cluster     DROP_UNCLASSIFIED: nftables didn't see it
 * PASSED   anything: it was looked at
 * 1 to 3   nothing: it was to go elsewhere                     DROP_UNROUTED
 * other    from an egress IP                                   DROP_NOT_TRANSLATED
 *
 * COUNTERS: it may leave. So may multicast, whatever stands where its mark is: in reports of groups, the
 * node's own, the kernel keeps another number there.
 */
static __always_inline enum counter fault(struct packet *packet, __u32 field)
{
	bool ours;

	if (is_multicast(&packet->destination))
		return COUNTERS;
	if (field == 0) {
		ours = bpf_map_lookup_elem(&endpoint, &packet->source);
		return ours && !is_in_cluster(&packet->destination) ? DROP_UNCLASSIFIED : COUNTERS;
	}
	if (field < MARK_PASSED)
		return DROP_UNROUTED;
	if (field >= CLASS_MIN && !bpf_map_lookup_elem(&egress, &packet->source))
		return DROP_NOT_TRANSLATED;
	return COUNTERS;
}

static __always_inline int look(struct __sk_buff *skb, struct packet *packet, __u32 field)
{
	enum counter why = fault(packet, field);

	if (why != COUNTERS) {
		drop(skb, packet, why);
		return EBB_TCX_DROP;
	}
	/* Else the compiler keeps the mark's address over the calls, and the verifier wants the context's. */
	barrier_var(skb);
	skb->mark &= ~MARK_MASK;
	return EBB_TCX_NEXT;
}

SEC("tc")
int guard(struct __sk_buff *skb)
{
	struct packet packet = {};

	/* What isn't IP can't be a pod's connection. */
	if (!parse(skb, ETH_HLEN, &packet))
		return EBB_TCX_NEXT;
	return look(skb, &packet, field_of(skb->mark));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
