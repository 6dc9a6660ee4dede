/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps. Those without BPF_F_NO_PREALLOC are small, or must never fail to take an entry. */
#ifndef EBBGATE_MAPS_H
#define EBBGATE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ebbgate.h"

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
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_OWN);
	__type(key, struct address);
	__type(value, __u32);
} own SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct direct);
} direct SEC(".maps");

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
_Static_assert(sizeof(struct direct) == 8, "direct");

#endif
