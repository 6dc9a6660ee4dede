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

#define EBBGATE_LAYOUT 1

/* Sizes. A node runs 110 to 500 pods; the sets in use on one node have at most some thousand routes. */
#define MAX_ENDPOINTS  65536  /* local pods with a policy: as many as nft's set `covered` takes */
#define MAX_ROUTES     262144 /* 512 sets of one full chunk each; LPM nodes are allocated as used */
#define MAX_PATHS      262144 /* 64 buckets x 4096 groups; allocated as used */
#define MAX_PEERS      16384  /* three addresses for each of 5,000 nodes */
#define MAX_RETURNS    262144 /* pods behind one gateway; LRU, 150,000 pods fit */
#define MAX_REMEMBERED 256    /* interfaces whose rp_filter was raised */

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
#define SLOT_MIN     16
#define VNI_REPLY    1

struct endpoint_key {
	__be32 address;
};

struct endpoint {
	__u64 set;
	__u32 bucket;
	__u32 pad;
};

struct route_key {
	__u32 prefixlen; /* 64 bits of set, then the CIDR's */
	__u32 set_high;	 /* two halves: a __u64 here would leave a hole before it */
	__u32 set_low;
	__be32 address;
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
	__be32 gateway;
	__u32 slot;
	__u32 flags;
};

struct peer_key {
	__be32 address;
};

struct returning {
	__be32 source; /* outer address that the pod's packets came from */
};

/* What the programmer keeps for its next start: which programs are in place, made from which object. */
struct meta {
	__u32 layout;
	__u32 encap_id;
	__u32 decap_id;
	__u32 classify_id;
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
	DROP_NO_MARK,
	DROP_NO_RETURN,
	DROP_UNKNOWN_PEER,
	DROP_BAD_VNI,
	DROP_NOT_IPV4,
	COUNTERS,
};

#endif
