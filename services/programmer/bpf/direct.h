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

/* The next hop, to be written by eights. */
union hop {
	struct bpf_redir_neigh to;
	eight words[3];
};
_Static_assert(offsetof(struct bpf_redir_neigh, ipv4_nh) == 4, "words of hop");

static __always_inline struct direct *direct_way(void)
{
	__u32 zero = 0;
	struct direct *found = bpf_map_lookup_elem(&direct, &zero);

	return found && found->device ? found : NULL;
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
	eight *words = (eight *)way;

	if (!length)
		return false;
	/* The family from the map: older verifiers take what a constant becomes in the look-up for the
	 * constant still. */
	words[0] = WITHIN(0, 1, by->family) | WITHIN(6, 2, length); /* family, tot_len */
	words[1] = WITHIN(0, 4, skb->ifindex);
	words[2] = words[3] = 0;
	words[4] = WITHIN(0, 4, remote); /* ipv4_dst */
	words[5] = words[6] = words[7] = 0;
	return !bpf_fib_lookup(skb, way, sizeof(*way), BPF_FIB_LOOKUP_SRC) && way->family == by->family;
}

_Static_assert(sizeof(struct bpf_fib_lookup) == 64 && offsetof(struct bpf_fib_lookup, tot_len) == 6 &&
		       offsetof(struct bpf_fib_lookup, ifindex) == 8 &&
		       offsetof(struct bpf_fib_lookup, ipv4_dst) == 32,
	       "words of find_way");

/*
 * The outer headers as they are sent, after four bytes that aren't: so the frame inside begins at an eight.
 * Not written into the packet itself, as comparing its pointers takes CAP_PERFMON before 6.8.
 */
union sent {
	eight words[7];
	struct {
		__u32 pad;
		__u8 outer[OUTER_BYTES - ETH_HLEN];
		struct ethhdr inner;
	};
};
_Static_assert(offsetof(union sent, inner) == 40 && sizeof(union sent) == 56, "sent");

/* Adds the four halves of an eight; what order its bytes are in makes no difference to a checksum. */
static __always_inline __u32 halves(eight word)
{
	return (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
}

static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* `length`: of all that follows the outer Ethernet header. */
static __always_inline void fill_outer(union sent *sent, struct bpf_fib_lookup *way, __be32 remote,
				       __be16 port, __u32 vni, __u8 ecn, __u16 length, __u32 hash)
{
	/* By the flow inside, so that what spreads packets over queues and links can tell flows apart. */
	__be16 source_port = bpf_htons(FIRST_SOURCE | (hash >> 17));
	__be16 udp_length = bpf_htons(length - sizeof(struct iphdr));
	eight first = WITHIN(4, 1, 0x45) | WITHIN(5, 1, ecn) | WITHIN(6, 2, bpf_htons(length));
	eight second = WITHIN(0, 2, bpf_get_prandom_u32() & 0xffff) | WITHIN(4, 1, OUTER_TTL) |
		       WITHIN(5, 1, IPPROTO_UDP);
	eight third = WITHIN(0, 4, way->ipv4_src) | WITHIN(4, 4, remote);

	sent->words[0] = first;
	sent->words[1] = second | WITHIN(6, 2, folded(halves(first) + halves(second) + halves(third)));
	sent->words[2] = third;
	sent->words[3] = WITHIN(0, 2, source_port) | WITHIN(2, 2, port) | WITHIN(4, 2, udp_length);
	sent->words[4] = WITHIN(0, 4, bpf_htonl(VXLAN_FLAGS)) | WITHIN(4, 4, bpf_htonl(vni << 8));
}

/* The program's answer, or 0: it goes the device's way, unchanged. */
static __always_inline int send_direct(struct __sk_buff *skb, struct packet *packet, __be32 remote, __u32 vni)
{
	struct direct *by = direct_way();
	struct bpf_fib_lookup way ON_EIGHTS;
	union hop hop;
	union sent sent;
	__u8 ecn;

	if (!by || !find_way(skb, packet, by, remote, &way))
		return 0;
	if (bpf_skb_load_bytes(skb, 0, &sent.inner, sizeof(sent.inner)))
		return 0;
	ecn = ecn_of(skb);
	bpf_get_hash_recalc(skb);
	if (bpf_skb_adjust_room(skb, OUTER_BYTES, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
					BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |
					BPF_F_ADJ_ROOM_ENCAP_L2_ETH))
		return 0;
	fill_outer(&sent, &way, remote, by->port, vni, ecn, skb->len - ETH_HLEN, skb->hash);
	if (bpf_skb_store_bytes(skb, ETH_HLEN, sent.outer, OUTER_BYTES, 0))
		return EBB_TCX_DROP;
	skb->mark = 0;
	hop.words[0] = WITHIN(0, 4, way.family) | WITHIN(4, 4, way.ipv4_dst);
	hop.words[1] = hop.words[2] = 0;
	return bpf_redirect_neigh(way.ifindex, &hop.to, sizeof(hop.to), 0);
}

static __always_inline __u16 checksum(const struct iphdr *ip)
{
	const __u16 *half = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += half[i];
	return folded(sum);
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
