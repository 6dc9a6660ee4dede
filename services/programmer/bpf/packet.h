/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet as the look-ups need it; its mark; what is counted and told of it. */
#ifndef EBBGATE_PACKET_H
#define EBBGATE_PACKET_H

#include <stddef.h>
#include <stdbool.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

/* TCX_NEXT and TCX_DROP of kernel 6.6; a filter under clsact understands the same as TC_ACT_UNSPEC and _SHOT.
 */
#define EBB_TCX_NEXT -1
#define EBB_TCX_DROP 2

#define OUTER_TTL 64
#define SECOND_NS 1000000000

/*
 * From 5.16 to 6.7 a verifier without CAP_PERFMON may take the first half of eight bytes on the stack for a
 * spilled register, and then refuses the second half; before 5.16 it takes eight zero bytes for one, and
 * refuses each byte written into them. So what is there lies on eights and is written by eights.
 */
#define ON_EIGHTS __attribute__((aligned(8)))
typedef __u64 __attribute__((may_alias)) eight;

/* A field of `size` bytes at `offset` of an eight. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WITHIN(offset, size, value) ((__u64)(value) << (8 * (offset)))
#else
#define WITHIN(offset, size, value) ((__u64)(value) << (8 * (8 - (offset) - (size))))
#endif

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
static __always_inline bool parse_as(struct __sk_buff *skb, __be16 protocol, __u32 offset,
				     struct packet *packet)
{
	if (protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
			return false;
		map_v4(&packet->source, ip.saddr);
		map_v4(&packet->destination, ip.daddr);
		packet->protocol = ip.protocol;
		packet->header = offset + ip.ihl * 4;
		return true;
	}
	if (protocol == bpf_htons(ETH_P_IPV6)) {
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

static __always_inline bool parse(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	return parse_as(skb, skb->protocol, offset, packet);
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

#endif
