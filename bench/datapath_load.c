/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for `make bench-datapath`: small exchanges, so that what is measured is the way and not the ends.
 *
 *   serve ADDRESS PORT           says to one TCP connection after the other whom it sees, once a message
 *   ask ADDRESS PORT SECONDS     one connection, one message under way: round trips
 *   open ADDRESS PORT SECONDS    a new connection for each exchange, closed with a reset (no TIME_WAIT)
 *   sink ADDRESS PORT            counts datagrams until none has come for IDLE_MS
 *   flood ADDRESS PORT SECONDS   datagrams of SMALL bytes, as fast as they go
 *
 * Each client prints one JSON object; `seen_as` is the address that the server saw. `cpu_ns` is the process's
 * own time: without IRQ_TIME_ACCOUNTING it holds the softirqs that its sending ran, and on veth devices those
 * are the whole way to the receiver's socket.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SMALL	  64
#define IDLE_MS	  400
#define BATCH	  64
#define SAMPLES	  (1 << 20)
#define FIRST_MS  10000
#define TIMEOUT_S 5

static struct sockaddr_in there;
static long long samples[SAMPLES];
static char seen_as[SMALL] = "ebb";

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long long now_ns(clockid_t clock)
{
	struct timespec at;

	clock_gettime(clock, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int new_socket(int type)
{
	struct timeval patience = {.tv_sec = TIMEOUT_S};
	int yes = 1, made = socket(AF_INET, type, 0);

	if (made < 0)
		fail("socket");
	setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return made;
}

static int bound(int type)
{
	int large = 32 << 20, made = new_socket(type);

	setsockopt(made, SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof(large));
	if (bind(made, (struct sockaddr *)&there, sizeof(there)))
		fail("bind");
	return made;
}

static int connected(int type)
{
	struct linger reset = {.l_onoff = 1};
	int yes = 1, made = new_socket(type);

	if (type == SOCK_STREAM) {
		setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
		setsockopt(made, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	}
	if (connect(made, (struct sockaddr *)&there, sizeof(there)))
		fail("connect");
	return made;
}

static void serve(void)
{
	int one, yes = 1, listening = bound(SOCK_STREAM);
	struct sockaddr_in peer;
	socklen_t length = sizeof(peer);
	char text[SMALL], name[SMALL];

	if (listen(listening, 128))
		fail("listen");
	while ((one = accept(listening, (struct sockaddr *)&peer, &length)) >= 0) {
		setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
		inet_ntop(AF_INET, &peer.sin_addr, name, sizeof(name));
		while (recv(one, text, sizeof(text), MSG_WAITALL) == sizeof(text))
			if (send(one, name, sizeof(name), MSG_NOSIGNAL) != sizeof(name))
				break;
		close(one);
	}
	fail("accept");
}

static void exchange(int with)
{
	if (send(with, seen_as, sizeof(seen_as), MSG_NOSIGNAL) != sizeof(seen_as))
		fail("send");
	if (recv(with, seen_as, sizeof(seen_as), MSG_WAITALL) != sizeof(seen_as))
		fail("recv");
}

static int by_size(const void *left, const void *right)
{
	long long a = *(const long long *)left, b = *(const long long *)right;

	return (a > b) - (a < b);
}

/* Round trips over one connection, or over a new one each. */
static void ask(double seconds, int anew)
{
	long long began = now_ns(CLOCK_MONOTONIC), at = began, end = began + seconds * 1e9, after;
	int count = 0, with = anew ? -1 : connected(SOCK_STREAM);

	for (; at < end && count < SAMPLES; at = after) {
		if (anew)
			with = connected(SOCK_STREAM);
		exchange(with);
		if (anew)
			close(with);
		after = now_ns(CLOCK_MONOTONIC);
		samples[count++] = after - at;
	}
	qsort(samples, count, sizeof(*samples), by_size);
	printf("{\"count\": %d, \"seconds\": %f, \"seen_as\": \"%s\", ", count, (at - began) / 1e9, seen_as);
	printf("\"p50_us\": %f, \"p99_us\": %f}\n", samples[count / 2] / 1e3,
	       samples[count * 99LL / 100] / 1e3);
}

static void flood(double seconds)
{
	long long began = now_ns(CLOCK_MONOTONIC), end = began + seconds * 1e9, count = 0;
	int each, with = connected(SOCK_DGRAM);
	char text[SMALL] = "ebb";

	do {
		for (each = 0; each < BATCH; each++)
			count += send(with, text, sizeof(text), 0) == sizeof(text);
	} while (now_ns(CLOCK_MONOTONIC) < end);
	printf("{\"count\": %lld, \"seconds\": %f, \"cpu_ns\": %lld}\n", count,
	       (now_ns(CLOCK_MONOTONIC) - began) / 1e9, now_ns(CLOCK_PROCESS_CPUTIME_ID));
}

static void sink(void)
{
	static char texts[BATCH][SMALL];
	static struct iovec parts[BATCH];
	static struct mmsghdr heads[BATCH];
	struct pollfd waiting = {.fd = bound(SOCK_DGRAM), .events = POLLIN};
	long long first = 0, last = 0, count = 0;
	int got, each;

	for (each = 0; each < BATCH; each++) {
		parts[each] = (struct iovec){.iov_base = texts[each], .iov_len = SMALL};
		heads[each].msg_hdr = (struct msghdr){.msg_iov = &parts[each], .msg_iovlen = 1};
	}
	puts("ready");
	fflush(stdout);
	while (poll(&waiting, 1, count ? IDLE_MS : FIRST_MS) > 0) {
		got = recvmmsg(waiting.fd, heads, BATCH, MSG_DONTWAIT, NULL);
		last = now_ns(CLOCK_MONOTONIC);
		first = first ? first : last;
		count += got > 0 ? got : 0;
	}
	printf("{\"count\": %lld, \"seconds\": %f, \"cpu_ns\": %lld}\n", count, (last - first) / 1e9,
	       now_ns(CLOCK_PROCESS_CPUTIME_ID));
}

int main(int given, char **words)
{
	double seconds = given > 4 ? atof(words[4]) : 0;

	if (given < 4 || inet_pton(AF_INET, words[2], &there.sin_addr) != 1)
		return 2;
	there.sin_family = AF_INET;
	there.sin_port = htons(atoi(words[3]));
	if (!strcmp(words[1], "serve"))
		serve();
	else if (!strcmp(words[1], "ask"))
		ask(seconds, 0);
	else if (!strcmp(words[1], "open"))
		ask(seconds, 1);
	else if (!strcmp(words[1], "sink"))
		sink();
	else if (!strcmp(words[1], "flood"))
		flood(seconds);
	else
		return 2;
	return 0;
}
