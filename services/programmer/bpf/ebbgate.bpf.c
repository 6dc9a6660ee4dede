/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a packet goes. nftables says who is asked at all and does NAT; these programs only look up.
 *
 * classify  lwt_in, on the route that nft's mark RECLASS leads to: sets the final mark, or drops
 * encap     egress of ebbgate0: says which gateway and slot the tunnel packet is for, or drops
 * decap     ingress of ebbgate0: refuses strangers, turns the tunnel's VNI into the slot's mark
 * guard     egress of the uplinks: what got there past nftables doesn't leave
 *
 * The last three are attached by tcx, or as filters under clsact (ebbgate_programmer/io/attachments.py).
 * Whatever isn't found is dropped (fail closed): no packet leaves here with an address nobody chose.
 */
#include <stddef.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ebbgate.h"

/* TCX_NEXT and TCX_DROP of kernel 6.6; a filter under clsact understands the same as TC_ACT_UNSPEC and _SHOT.
 */
#define EBB_TCX_NEXT -1
#define EBB_TCX_DROP 2

/* As much of the struct as every kernel takes: before 6.0 it ends before the local address. */
#define TUNNEL_KEY_BYTES offsetof(struct bpf_tunnel_key, tunnel_label)

#define OUTER_TTL 64
#define SECOND_NS 1000000000

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, struct address);
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
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CLUSTER);
	__type(key, struct cluster_key);
	__type(value, __u32);
} cluster SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_EGRESS);
	__type(key, struct address);
	__type(value, __u32);
} egress SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PEERS);
	__type(key, struct address);
	__type(value, __u32);
} peer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_RETURNS);
	__type(key, struct address);
	__type(value, struct address); /* outer address that the pod's packets came from */
} returns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, enum counter); /* so that the names are in the BTF */
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_TRAFFIC);
	__type(key, struct traffic_key);
	__type(value, struct traffic);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOT_MAX + 1);
	__type(key, __u32);
	__type(value, struct traffic);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, DROPS_BYTES);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} budget SEC(".maps");

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
_Static_assert(sizeof(struct route_key) == 28, "route_key");
_Static_assert(sizeof(struct route) == 16, "route");
_Static_assert(sizeof(struct path_key) == 16, "path_key");
_Static_assert(sizeof(struct path) == 24, "path");
_Static_assert(sizeof(struct cluster_key) == 20, "cluster_key");
_Static_assert(sizeof(struct meta) == 32, "meta");
_Static_assert(sizeof(struct traffic_key) == 16, "traffic_key");
_Static_assert(sizeof(struct drop) == 56, "drop");

/*
 * From 5.16 to 6.7 a verifier without CAP_PERFMON may take the first half of eight bytes on the stack for a
 * spilled register, and then refuses the second half. So what is there lies on eights and is written by
 * eights.
 */
#define ON_EIGHTS __attribute__((aligned(8)))
typedef __u64 __attribute__((may_alias)) eight;

static __always_inline void copy(void *to, const void *from)
{
	((eight *)to)[0] = ((const eight *)from)[0];
	((eight *)to)[1] = ((const eight *)from)[1];
}

/* Keys and a tunnel's key have their address, or the set's id, four bytes from an eight. */
struct route_question {
	__u32 pad;
	struct route_key key;
} ON_EIGHTS;

struct cluster_question {
	__u32 pad;
	struct cluster_key key;
} ON_EIGHTS;

struct tunnel {
	__u32 pad;
	struct bpf_tunnel_key key;
} ON_EIGHTS;

/* A packet as the look-ups need it; `found` is what they found for it. */
struct packet {
	struct address source ON_EIGHTS;
	struct address destination ON_EIGHTS;
	__u64 header; /* where the transport's header begins */
	__u64 protocol;
	__u64 group;
	struct path *path;
};

/* Functions of their own, so that their small keys don't share eights with anything (`eight`). */
static __noinline void count(enum counter which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

static __always_inline void add(struct traffic *value, __u32 bytes)
{
	value->packets += 1;
	value->bytes += bytes;
}

static __noinline void count_group(__u64 group, __u32 which, __u32 bytes)
{
	struct traffic_key key = {.group = group, .counter = which};
	struct traffic fresh = {.packets = 1, .bytes = bytes};
	struct traffic *value = bpf_map_lookup_elem(&traffic, &key);

	if (value)
		add(value, bytes);
	else
		bpf_map_update_elem(&traffic, &key, &fresh, BPF_NOEXIST);
}

/* Whether this CPU may tell of one more drop in this second: a flood must not drown the reader. */
static __always_inline bool may_tell(void)
{
	__u64 second = bpf_ktime_get_ns() / SECOND_NS;
	struct budget *left;
	__u32 zero = 0;

	left = bpf_map_lookup_elem(&budget, &zero);
	if (!left)
		return false;
	if (left->second != second) {
		left->second = second;
		left->told = 0;
	}
	left->told += 1;
	return left->told <= DROPS_A_SECOND;
}

/* A function of its own so that the struct is in the BTF, where the test of its Python twin finds it. */
static __noinline void fill(struct __sk_buff *skb, struct packet *packet, struct drop *told)
{
	told->group = packet->group;
	told->protocol = packet->protocol;
	copy(&told->source, &packet->source);
	copy(&told->destination, &packet->destination);
	told->source_port = 0;
	told->destination_port = 0;
	told->pad = 0;
	if (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP)
		bpf_skb_load_bytes(skb, packet->header, &told->source_port, 4);
}

/* Written where it is read from, not on the stack, which has its difficulties (`eight`). */
static __noinline void tell(struct __sk_buff *skb, struct packet *packet, __u32 why)
{
	struct drop *told;

	if (!may_tell())
		return;
	told = bpf_ringbuf_reserve(&drops, sizeof(*told), 0);
	if (!told)
		return;
	told->counter = why;
	fill(skb, packet, told);
	bpf_ringbuf_submit(told, 0);
}

static __always_inline void drop(struct __sk_buff *skb, struct packet *packet, enum counter why)
{
	count(why);
	if (packet->group)
		count_group(packet->group, why, skb->len);
	tell(skb, packet, why);
}

static __always_inline void map_v4(struct address *to, __be32 v4)
{
	((eight *)to)[0] = 0;
	((eight *)to)[1] = bpf_cpu_to_be64(0xffff00000000 | bpf_ntohl(v4));
}

/* `offset`: of the IP header. False: it isn't IP. */
static __always_inline bool parse(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
			return false;
		map_v4(&packet->source, ip.saddr);
		map_v4(&packet->destination, ip.daddr);
		packet->protocol = ip.protocol;
		packet->header = offset + ip.ihl * 4;
		return true;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip ON_EIGHTS;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
			return false;
		copy(&packet->source, &ip.saddr);
		copy(&packet->destination, &ip.daddr);
		packet->protocol = ip.nexthdr;
		packet->header = offset + sizeof(ip);
		return true;
	}
	return false;
}

static __always_inline __u32 mark_of(__u32 field)
{
	return (field & 0x7f) | ((field & 0xf80) << 1);
}

static __always_inline __u32 field_of(__u32 mark)
{
	return (mark & 0x7f) | ((mark & 0x1f00) >> 1);
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
static __always_inline int send_to(struct __sk_buff *skb, struct address *remote, __u32 vni)
{
	struct tunnel to = {.key = {.tunnel_id = vni, .tunnel_ttl = OUTER_TTL}};
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (is_mapped(remote)) {
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
	return send_to(skb, &packet->path->gateway, packet->path->slot);
}

static __always_inline int send_reply(struct __sk_buff *skb, struct packet *packet)
{
	struct address *back = bpf_map_lookup_elem(&returns, &packet->destination);

	if (!back) {
		drop(skb, packet, DROP_NO_RETURN);
		return EBB_TCX_DROP;
	}
	count(COUNT_REPLIED);
	return send_to(skb, back, VNI_REPLY);
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

static __always_inline int arrive(struct __sk_buff *skb, __u32 vni, struct address *from)
{
	struct packet packet = {};
	struct traffic *of_slot;

	if (!parse(skb, ETH_HLEN, &packet)) {
		count(DROP_NOT_IP);
		return EBB_TCX_DROP;
	}
	if (vni >= SLOT_MIN && vni <= SLOT_MAX) {
		remember(&packet.source, from);
		skb->mark = mark_of(vni);
		of_slot = bpf_map_lookup_elem(&slots, &vni);
		if (of_slot)
			add(of_slot, skb->len);
	} else if (vni == VNI_REPLY) {
		skb->mark = 0;
	} else {
		drop(skb, &packet, DROP_BAD_VNI);
		return EBB_TCX_DROP;
	}
	count(COUNT_ARRIVED);
	/* Each ebbgate0 has its own MAC, and the sender wrote its own into both fields: say it is for us. */
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
		return EBB_TCX_DROP;
	if (!bpf_map_lookup_elem(&peer, &from)) {
		parse(skb, ETH_HLEN, &stranger);
		copy(&stranger.source, &from); /* who sent it says more than what it claims to be */
		drop(skb, &stranger, DROP_UNKNOWN_PEER);
		return EBB_TCX_DROP;
	}
	return arrive(skb, by.key.tunnel_id, &from);
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
