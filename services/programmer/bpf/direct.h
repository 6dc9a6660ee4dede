/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The direct way: packets go between ebbgate0 and the uplink without the outer packet's walk through the IP
 * stack, its hooks and the VXLAN driver, which cost more than all look-ups of ours.
 *
 * The same bytes are on the wire, so each end may take either way. Whatever isn't plain goes the device's
 * way: IPv6 or fragments outside, congestion marks, strangers, what has no route or doesn't fit (which the
 * stack answers); on arrival also what GRO has put together, and sent what is yet to be cut and isn't TCP. So
 * does all traffic where the map `direct` is empty, and what is sent on kernels whose route look-up doesn't
 * name a source (before 6.7).
 */
#ifndef EBBGATE_DIRECT_H
#define EBBGATE_DIRECT_H

#include <linux/if_packet.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "packet.h"

#define VXLAN_FLAGS  0x08000000
#define FRAGMENT     0x3fff /* more of them, or not the first */
#define ECN_MASK     3
#define ECN_CE	     3
#define ECN_ECT_0    2
#define FIRST_SOURCE 32768 /* port */
#define MAX_LENGTH   65535

/* What the tunnel puts between a frame's Ethernet header and the packet inside. */
struct outer {
	struct iphdr ip;
	struct udphdr udp;
	__be32 flags;
	__be32 vni;
	struct ethhdr inner;
};

#define OUTER_BYTES                                                                                          \
	(offsetof(struct outer, inner) + sizeof(struct ethhdr)) /* the struct's own size is padded */
_Static_assert(OUTER_BYTES == 50, "outer");

static __always_inline struct direct *direct_way(void)
{
	__u32 zero = 0;
	struct direct *found = bpf_map_lookup_elem(&direct, &zero);

	return found && found->device ? found : NULL;
}

static __always_inline __u16 checksum(const struct iphdr *ip)
{
	const __u16 *half = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += half[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* RFC 6040: the inner congestion field; a mark stays inside. */
static __always_inline __u8 ecn_of(struct __sk_buff *skb)
{
	bool is_v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	__u8 field = 0;

	/* The second byte of both headers; IPv6's has the flow label's beginning below it. */
	bpf_skb_load_bytes(skb, ETH_HLEN + 1, &field, 1);
	field = (is_v6 ? field >> 4 : field) & ECN_MASK;
	return field == ECN_CE ? ECN_ECT_0 : field;
}

/* Bytes of the TCP header; 0: it can't be read. */
static __always_inline __u32 tcp_header(struct __sk_buff *skb, struct packet *packet)
{
	__u8 words = 0;

	bpf_skb_load_bytes(skb, packet->header + 12, &words, 1);
	return (words >> 4) * 4;
}

/* Bytes of the longest packet that it is on the wire, outer headers included; 0: not to be known here. */
static __always_inline __u32 length_outside(struct __sk_buff *skb, struct packet *packet)
{
	if (skb->len + OUTER_BYTES > MAX_LENGTH)
		return 0;
	if (!skb->gso_size)
		return skb->len - ETH_HLEN + OUTER_BYTES;
	if (packet->protocol != IPPROTO_TCP)
		return 0;
	return packet->header - ETH_HLEN + tcp_header(skb, packet) + skb->gso_size + OUTER_BYTES;
}

/*
 * Where the remote is, and from where to speak to it; false: the stack has to see to it. So it has while the
 * next hop's MAC isn't known: what waits for the answer is sent by its route then, which is the inner one.
 */
static __always_inline bool find_way(struct __sk_buff *skb, struct packet *packet, struct direct *by,
				     __be32 remote, struct bpf_fib_lookup *way)
{
	__u32 length = length_outside(skb, packet);

	if (!length)
		return false;
	/* From the map: older verifiers take what a constant becomes in the look-up for the constant still.
	 */
	way->family = by->family;
	way->ifindex = skb->ifindex;
	way->tot_len = length;
	way->ipv4_dst = remote;
	return !bpf_fib_lookup(skb, way, sizeof(*way), BPF_FIB_LOOKUP_SRC) && way->family == by->family;
}

/* Written into the packet, not on the stack, which has its difficulties (`eight`). */
static __always_inline bool fill_outer(struct __sk_buff *skb, __be32 source, __be32 remote, __be16 port,
				       __u32 vni, __u8 ecn)
{
	void *data = (void *)(long)skb->data;
	struct outer *outer = data + ETH_HLEN;
	__u16 length = skb->len - ETH_HLEN;

	if ((void *)outer + OUTER_BYTES > (void *)(long)skb->data_end)
		return false;
	outer->ip.version = 4;
	outer->ip.ihl = sizeof(outer->ip) / 4;
	outer->ip.tos = ecn;
	outer->ip.tot_len = bpf_htons(length);
	outer->ip.id = bpf_get_prandom_u32();
	outer->ip.frag_off = 0;
	outer->ip.ttl = OUTER_TTL;
	outer->ip.protocol = IPPROTO_UDP;
	outer->ip.check = 0;
	outer->ip.saddr = source;
	outer->ip.daddr = remote;
	outer->ip.check = checksum(&outer->ip);
	/* By the flow inside, so that what spreads packets over queues and links can tell flows apart. */
	outer->udp.source = bpf_htons(FIRST_SOURCE | (skb->hash >> 17));
	outer->udp.dest = port;
	outer->udp.len = bpf_htons(length - sizeof(outer->ip));
	outer->udp.check = 0;
	outer->flags = bpf_htonl(VXLAN_FLAGS);
	outer->vni = bpf_htonl(vni << 8);
	return true;
}

/* The program's answer, or 0: it goes the device's way, unchanged. */
static __always_inline int send_direct(struct __sk_buff *skb, struct packet *packet, __be32 remote, __u32 vni)
{
	struct direct *by = direct_way();
	struct bpf_redir_neigh hop = {};
	struct bpf_fib_lookup way = {};
	struct ethhdr inner ON_EIGHTS;
	__u8 ecn;

	if (!by || !find_way(skb, packet, by, remote, &way))
		return 0;
	if (bpf_skb_load_bytes(skb, 0, &inner, sizeof(inner)))
		return 0;
	ecn = ecn_of(skb);
	bpf_get_hash_recalc(skb);
	if (bpf_skb_adjust_room(skb, OUTER_BYTES, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
					BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |
					BPF_F_ADJ_ROOM_ENCAP_L2_ETH))
		return 0;
	if (!fill_outer(skb, way.ipv4_src, remote, by->port, vni, ecn) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct outer, inner), &inner, sizeof(inner), 0))
		return EBB_TCX_DROP;
	skb->mark = 0;
	hop.nh_family = way.family;
	hop.ipv4_nh = way.ipv4_dst;
	return bpf_redirect_neigh(way.ifindex, &hop, sizeof(hop), 0);
}

static __always_inline bool is_plain(const struct outer *outer, __u32 length, __be16 port)
{
	return outer->ip.version == 4 && outer->ip.ihl == sizeof(outer->ip) / 4 &&
	       outer->ip.protocol == IPPROTO_UDP && outer->udp.dest == port &&
	       !(outer->ip.frag_off & bpf_htons(FRAGMENT)) && (outer->ip.tos & ECN_MASK) != ECN_CE &&
	       outer->ip.tot_len == bpf_htons(length) &&
	       outer->udp.len == bpf_htons(length - sizeof(outer->ip)) && !outer->udp.check &&
	       !checksum(&outer->ip) && outer->flags == bpf_htonl(VXLAN_FLAGS) &&
	       (outer->inner.h_proto == bpf_htons(ETH_P_IP) || outer->inner.h_proto == bpf_htons(ETH_P_IPV6));
}

/*
 * A segment with data must not overtake larger ones of its stream, which GRO has put together and which go
 * the device's way: the receiver would take them for lost.
 */
static __always_inline bool may_overtake(struct __sk_buff *skb, struct packet *packet)
{
	return packet->protocol != IPPROTO_TCP || skb->len == packet->header + tcp_header(skb, packet);
}

#endif
