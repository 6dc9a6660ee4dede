/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a packet goes. nftables says who is asked at all and does NAT; these three programs only look up.
 *
 * classify  lwt_in, on the route that nft's mark RECLASS leads to: sets the final mark, or drops
 * encap     tcx egress of ebbgate0: says which gateway and slot the tunnel packet is for, or drops
 * decap     tcx ingress of ebbgate0: refuses strangers, turns the tunnel's VNI into the slot's mark
 *
 * Whatever isn't found is dropped (fail closed): no packet leaves here with an address nobody chose.
 */
#include <stddef.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ebbgate.h"

/* From linux/bpf.h of kernel 6.6: older headers lack it. */
#define EBB_TCX_NEXT -1
#define EBB_TCX_DROP 2
#define OUTER_TTL    64

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, struct endpoint_key);
	__type(value, struct endpoint);
} endpoint SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ROUTES);
	__type(key, struct route_key);
	__type(value, struct route);
} route SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PATHS);
	__type(key, struct path_key);
	__type(value, struct path);
} path SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PEERS);
	__type(key, struct peer_key);
	__type(value, __u32);
} peer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_RETURNS);
	__type(key, struct endpoint_key);
	__type(value, struct returning);
} returns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, enum counter); /* so that the names are in the BTF */
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct meta);
} meta SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_REMEMBERED);
	__type(key, struct remembered_key);
	__type(value, struct remembered);
} remembered SEC(".maps");

_Static_assert(sizeof(struct endpoint) == 16, "endpoint");
_Static_assert(sizeof(struct route_key) == 16, "route_key");
_Static_assert(sizeof(struct route) == 16, "route");
_Static_assert(sizeof(struct path_key) == 16, "path_key");
_Static_assert(sizeof(struct path) == 12, "path");
_Static_assert(sizeof(struct meta) == 24, "meta");

static __always_inline void count(enum counter which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

static __always_inline __u32 mark_of(__u32 field)
{
	return (field & 0x7f) | ((field & 0xf80) << 1);
}

static __always_inline void set_mark(struct __sk_buff *skb, __u32 field)
{
	skb->mark = (skb->mark & ~MARK_MASK) | mark_of(field);
}

enum answer {
	ANSWER_STEER,
	ANSWER_EXCLUDE,
	ANSWER_DROP
};

/* The decision of core/decisions.py, from the same three tables. */
static __always_inline enum answer decide(struct iphdr *ip, struct path **found)
{
	struct endpoint_key from = {.address = ip->saddr};
	struct endpoint *source = bpf_map_lookup_elem(&endpoint, &from);
	struct route_key to = {.prefixlen = 96, .address = ip->daddr};
	struct path_key by = {};
	struct route *way;

	if (!source) {
		count(DROP_NO_ENDPOINT);
		return ANSWER_DROP;
	}
	to.set_high = bpf_htonl(source->set >> 32);
	to.set_low = bpf_htonl((__u32)source->set);
	way = bpf_map_lookup_elem(&route, &to);
	if (!way || way->action == ACTION_EXCLUDE)
		return ANSWER_EXCLUDE;
	if (way->action != ACTION_STEER) {
		count(DROP_ROUTE);
		return ANSWER_DROP;
	}
	by.group = way->group;
	by.bucket = source->bucket;
	*found = bpf_map_lookup_elem(&path, &by);
	if (*found && (*found)->slot >= SLOT_MIN)
		return ANSWER_STEER;
	count(DROP_NO_PATH);
	return ANSWER_DROP;
}

SEC("lwt_in")
int classify(struct __sk_buff *skb)
{
	struct path *way = NULL;
	struct iphdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip))) {
		count(DROP_NOT_IPV4);
		return BPF_DROP;
	}
	switch (decide(&ip, &way)) {
	case ANSWER_EXCLUDE:
		count(COUNT_EXCLUDED);
		set_mark(skb, 0);
		return BPF_LWT_REROUTE;
	case ANSWER_STEER:
		if (!way)
			return BPF_DROP;
		if (way->flags & PATH_LOCAL)
			count(COUNT_LOCAL);
		set_mark(skb, way->flags & PATH_LOCAL ? way->slot : MARK_STEER);
		return BPF_LWT_REROUTE;
	default:
		return BPF_DROP;
	}
}

/* The outer packet would inherit the mark and be steered again: it is cleared here, entirely. */
static __always_inline int send_to(struct __sk_buff *skb, __be32 remote, __u32 vni)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = vni,
		.remote_ipv4 = bpf_ntohl(remote),
		.tunnel_ttl = OUTER_TTL,
	};

	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX))
		return EBB_TCX_DROP;
	skb->mark = 0;
	return EBB_TCX_NEXT;
}

static __always_inline int send_original(struct __sk_buff *skb, struct iphdr *ip)
{
	struct path *way = NULL;

	/* Looked up again, not carried from classify: 12 bits of mark have no room for gateway and slot. */
	if (decide(ip, &way) != ANSWER_STEER || !way || way->flags & PATH_LOCAL) {
		count(DROP_NO_PATH);
		return EBB_TCX_DROP;
	}
	count(COUNT_STEERED);
	return send_to(skb, way->gateway, way->slot);
}

static __always_inline int send_reply(struct __sk_buff *skb, struct iphdr *ip)
{
	struct endpoint_key to = {.address = ip->daddr};
	struct returning *back = bpf_map_lookup_elem(&returns, &to);

	if (!back) {
		count(DROP_NO_RETURN);
		return EBB_TCX_DROP;
	}
	count(COUNT_REPLIED);
	return send_to(skb, back->source, VNI_REPLY);
}

SEC("tc")
int encap(struct __sk_buff *skb)
{
	__u32 field = skb->mark & MARK_MASK;
	struct iphdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip))) {
		count(DROP_NOT_IPV4);
		return EBB_TCX_DROP;
	}
	if (field == MARK_STEER)
		return send_original(skb, &ip);
	if (field == MARK_REPLY)
		return send_reply(skb, &ip);
	count(DROP_NO_MARK);
	return EBB_TCX_DROP;
}

/* Most packets find their own entry: a write for each would take the LRU's locks for nothing. */
static __always_inline void remember(__be32 pod, __be32 source)
{
	struct endpoint_key key = {.address = pod};
	struct returning value = {.source = source};
	struct returning *known = bpf_map_lookup_elem(&returns, &key);

	if (!known || known->source != source)
		bpf_map_update_elem(&returns, &key, &value, BPF_ANY);
}

static __always_inline int arrive(struct __sk_buff *skb, __u32 vni, __be32 from)
{
	struct iphdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip))) {
		count(DROP_NOT_IPV4);
		return EBB_TCX_DROP;
	}
	if (vni >= SLOT_MIN && vni <= 0xfff) {
		remember(ip.saddr, from);
		skb->mark = mark_of(vni);
	} else if (vni == VNI_REPLY) {
		skb->mark = 0;
	} else {
		count(DROP_BAD_VNI);
		return EBB_TCX_DROP;
	}
	count(COUNT_ARRIVED);
	/* Each ebbgate0 has its own MAC, and the sender wrote its own into both fields: say it is for us. */
	bpf_skb_change_type(skb, PACKET_HOST);
	return EBB_TCX_NEXT;
}

SEC("tc")
int decap(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	struct peer_key from;

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		return EBB_TCX_DROP;
	from.address = bpf_htonl(key.remote_ipv4);
	if (!bpf_map_lookup_elem(&peer, &from)) {
		count(DROP_UNKNOWN_PEER);
		return EBB_TCX_DROP;
	}
	return arrive(skb, key.tunnel_id, from.address);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
