/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps' layout, shared by the BPF programs and, by hand, by ebbgate_programmer/core/layout.py.
 *
 * A test compares both through the object's BTF: change one, and it fails until the other follows. Whoever
 * changes the meaning or size of anything here raises EBBGATE_LAYOUT, which is part of the pin path, so that
 * an old programmer never writes into new maps.
 */
#ifndef EBBGATE_H
#define EBBGATE_H

#include <linux/types.h>

#define EBBGATE_LAYOUT 3

/* Sizes. A node runs 110 to 500 pods; the sets in use on one node have at most some thousand routes. */
#define MAX_ENDPOINTS  65536  /* addresses of local pods with a policy: as many as nft's set takes */
#define MAX_ROUTES     262144 /* 512 sets of one full chunk each; LPM nodes are allocated as used */
#define MAX_PATHS      262144 /* 64 buckets x 4096 groups; allocated as used */
#define MAX_CLUSTER    65536  /* as many as nft's set takes */
#define MAX_EGRESS     4096   /* slots of a gateway */
#define MAX_PEERS      16384  /* three addresses for each of 5,000 nodes */
#define MAX_OWN	       64     /* addresses of this node that tunnels lead to */
#define MAX_RETURNS    262144 /* pods behind one gateway; LRU, 150,000 pods fit */
#define MAX_TRAFFIC    16384  /* policies of local pods, times what is counted */
#define MAX_REMEMBERED 256    /* interfaces whose rp_filter was raised */
#define DROPS_BYTES    65536  /* of drops that nobody has read yet */
#define DROPS_A_SECOND 50     /* told by each CPU; all are counted */

/* Action of a route. */
#define ACTION_STEER   1
#define ACTION_EXCLUDE 2
#define ACTION_DROP    3

/* Flag of a path: the gateway is this node; its slot is a mark, no tunnel. */
#define PATH_LOCAL 1

/* Marks, spread as core/marks.py tells: field f is (f & 0x7f) | ((f & 0xf80) << 1). Values below 16 are ours.
 */
#define MARK_MASK    0x1f7f
#define MARK_STEER   1
#define MARK_RECLASS 2
#define MARK_REPLY   3
#define MARK_PASSED  4
#define CLASS_MIN    5
#define SLOT_MIN     16
#define SLOT_MAX     4095
#define VNI_REPLY    1

/* IPv6, or IPv4 as ::ffff:a.b.c.d: one form, one set of maps. */
struct address {
	__be32 word[4];
};

struct endpoint {
	__u64 set;
	__u32 bucket;
	__u32 pad;
};

struct route_key {
	__u32 prefixlen; /* 64 bits of set, then the CIDR's, an IPv4 one's with the 96 before it */
	__u32 set_high;	 /* two halves: a __u64 here would leave a hole before it */
	__u32 set_low;
	struct address destination;
};

struct route {
	__u64 group;
	__u32 action;
	__u32 pad;
};

struct path_key {
	__u64 group;
	__u32 bucket;
	__u32 pad;
};

struct path {
	struct address gateway;
	__u32 slot;
	__u32 flags;
};

struct cluster_key {
	__u32 prefixlen;
	struct address destination;
};

/* The direct way, or none if `device` is 0. `device`: index of ebbgate0; `port`: of the tunnel; `family`: of
 * the outer packets, AF_INET.
 */
struct direct {
	__u32 device;
	__be16 port;
	__u8 family;
	__u8 pad;
};

/* What the programmer keeps for its next start: which programs are in place, made from which object. */
struct meta {
	__u32 layout;
	__u32 encap_id;
	__u32 decap_id;
	__u32 classify_id;
	__u32 guard_id;
	__u32 take_id;
	__u64 object_hash;
};

struct remembered_key {
	char interface[16];
};

struct remembered {
	__u32 rp_filter; /* as it was before we raised it */
};

enum counter {
	COUNT_STEERED,
	COUNT_LOCAL,
	COUNT_EXCLUDED,
	COUNT_REPLIED,
	COUNT_ARRIVED,
	DROP_NO_ENDPOINT,
	DROP_ROUTE,
	DROP_NO_PATH,
	DROP_NO_EGRESS_IP,
	DROP_NO_MARK,
	DROP_NO_RETURN,
	DROP_UNKNOWN_PEER,
	DROP_BAD_VNI,
	DROP_NOT_IP,
	DROP_UNROUTED,
	DROP_UNCLASSIFIED,
	DROP_NOT_TRANSLATED,
	COUNTERS,
};

/* Traffic of a group (a policy's gateways, one IP family), and of a slot. */
struct traffic_key {
	__u64 group;
	__u32 counter; /* enum counter, or TRAFFIC_CONNECTIONS */
	__u32 pad;
};

#define TRAFFIC_CONNECTIONS 64

struct traffic {
	__u64 packets;
	__u64 bytes;
};

/* One dropped packet, for people. */
struct drop {
	__u64 group; /* 0: no policy is known */
	__u32 counter;
	__u32 protocol;
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 pad;
};

struct budget {
	__u64 second;
	__u64 told;
};

#endif
