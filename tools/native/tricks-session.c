// SPDX-License-Identifier: GPL-2.0-only
/*
 * tricks-session.c - tricks with credits, records, attaching and maps, with the offer itself, and noise.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostile.h"

/* ---- tricks: credits ---- */

/* Stores @count pages from slot 0 on, in good order. */
static void put_pages(struct evil *e, u32 count)
{
	struct memx_head head;
	u8 *body;

	for (u32 slot = 0; slot < count; slot += 32) {
		u64 tag = send_store(e, slot, 32, 5);

		if (!answer_to(e, STORE_LANE, tag, &head, &body, false) || head.status)
			die("store");
		free(body);
	}
}

/* More requests at one go than may be unanswered. */
void t_overdraft(struct evil *e)
{
	u32 at = 0, len = MEMX_HDR_LEN + memx_want_len(1);

	ready(e);
	put_pages(e, 32);
	for (u32 i = 0; i < memx_le32(e->granted.lane_requests) + 50; i++) {
		struct memx_head head = request(e, MEMX_OP_FETCH, build_want(e, scratch, i % 32, 1, 5));
		struct memx_hdr hdr;

		if ((u32)memx_vring_space(ring(e, FETCH_LANE)) < at + len)
			break;
		memx_hdr_put(&hdr, &head);
		memx_vring_put(ring(e, FETCH_LANE), at, &hdr, sizeof(hdr));
		memx_vring_put(ring(e, FETCH_LANE), at + MEMX_HDR_LEN, scratch, head.len);
		at += len;
	}
	if (memx_vring_publish(ring(e, FETCH_LANE), at))
		notify(e, FETCH_LANE);
	say_closed(e);
}

/* More pages than the reply ring holds, and no answer is read. */
void t_overdraft_pages(struct evil *e)
{
	ready(e);
	put_pages(e, 512);
	for (u32 i = 0; i < 16 && !closed(e); i++)
		send_fetch(e, i * 32, 32, 5);
	say_closed(e);
}

void t_ping_flood(struct evil *e)
{
	ready(e);
	for (u32 i = 0; i < 200000 && !closed(e); i++) {
		struct memx_head head = request(e, MEMX_OP_PING, 0);

		send_frame(e, STORE_LANE, &head, NULL);
	}
	say_closed(e);
}

/* A record is proposed and never answered: the store is never acknowledged, nothing else happens. */
void t_record_unanswered(struct evil *e)
{
	struct memx_head head;
	u8 *body;

	ready(e);
	send_store(e, 0, 1, 5);
	if (!receive(e, STORE_LANE, &head, &body, PATIENCE_MS) || head.op != MEMX_OP_RECORD || head.reply)
		die("no record came");
	if (receive(e, STORE_LANE, &head, &body, 1500)) {
		printf("acknowledged early: op %u reply %d status %s\n", head.op, head.reply, status_name(head.status));
		exit(0);
	}
	say_outcome(e);
}

static void record_reply(struct evil *e, u64 tag_change, u32 status, u32 len)
{
	struct memx_head head;
	u8 *body;

	ready(e);
	send_store(e, 0, 1, 5);
	if (!receive(e, STORE_LANE, &head, &body, PATIENCE_MS) || head.op != MEMX_OP_RECORD || head.reply)
		die("no record came");
	head.reply = true;
	head.status = status;
	head.len = len;
	head.tag += tag_change;
	send_frame(e, STORE_LANE, &head, scratch);
	say_closed(e);
}

void t_record_tag(struct evil *e) { record_reply(e, 1, 0, 0); }
void t_record_no(struct evil *e) { record_reply(e, 0, MEMX_S_INVALID, 0); }
void t_record_long(struct evil *e) { record_reply(e, 0, 0, 40); }

void t_answer_unasked(struct evil *e)
{
	struct memx_head head = { .op = MEMX_OP_RECORD, .reply = true, .tag = 424242 };

	ready(e);
	head.epoch = e->epoch;
	send_frame(e, STORE_LANE, &head, NULL);
	say_closed(e);
}

/* ---- tricks: attaching and maps ---- */

void t_attach_twice(struct evil *e)
{
	ready(e);
	e->epoch++;
	send_attach(e, 0);
	say_closed(e);
}

void t_attach_fetch_lane(struct evil *e)
{
	struct memx_head head;
	struct memx_attach a;

	greeted(e);
	e->epoch = 1;
	head = request(e, MEMX_OP_ATTACH, sizeof(a));
	attach_body(e, &a, 0);
	send_frame(e, FETCH_LANE, &head, &a);
	say_closed(e);
}

void t_map_unasked(struct evil *e)
{
	ready(e);
	send_map(e, NULL, 0, true);
	say_closed(e);
}

void t_map_endless(struct evil *e)
{
	struct memx_record recs[MEMX_MAX_RECORDS] = { 0 };

	greeted(e);
	e->epoch = 1;
	send_attach(e, 16);
	for (u32 i = 0; i < MEMX_MAX_RECORDS; i++) {
		recs[i].extent = memx_put_le32(i);
		recs[i].replicas = 1;
		recs[i].generation = memx_put_le64(1);
		recs[i].replica[0].donor[0] = 1;
		recs[i].replica[0].state = MEMX_R_LIVE;
	}
	for (u32 i = 0; i < 5000 && !closed(e); i++)
		send_map(e, recs, MEMX_MAX_RECORDS, false);
	say_closed(e);
}

static void forged_map(struct evil *e, const struct memx_record *rec)
{
	int status;

	greeted(e);
	status = attach(e, rec, 1);
	if (status >= 0)
		printf("answered %s\n", status_name((u32)status));
	else
		printf("%s\n", closed(e) ? "closed" : "silent");
	exit(0);
}

void t_map_unknown_donor(struct evil *e)
{
	struct memx_record rec = { .replicas = 1, .generation = memx_put_le64(3) };

	memset(rec.replica[0].donor, 0x5a, 16);
	rec.replica[0].state = MEMX_R_LIVE;
	forged_map(e, &rec);
}

void t_map_invalid(struct evil *e)
{
	struct memx_record rec = { .replicas = 9, .generation = memx_put_le64(3) };

	forged_map(e, &rec);
}

void t_map_dead(struct evil *e)
{
	struct memx_record rec = { .replicas = 1, .generation = memx_put_le64(3) };

	memset(rec.replica[0].donor, 0x5a, 16);
	rec.replica[0].state = MEMX_R_STALE;
	forged_map(e, &rec);
}

void t_map_extent(struct evil *e)
{
	struct memx_record rec = { .extent = memx_put_le32(1 << 20), .replicas = 1, .generation = memx_put_le64(3) };

	memset(rec.replica[0].donor, 0x5a, 16);
	rec.replica[0].state = MEMX_R_LIVE;
	forged_map(e, &rec);
}

/* Another guest's session id and its true record, stolen: what it gets must be its own and empty. */
void t_steal(struct evil *e)
{
	int status;

	if (!e->has_victim)
		die("no victim given");
	greeted(e);
	status = attach(e, &e->victim, 1);
	if (status != MEMX_S_OK) {
		printf("answered %s\n", status < 0 ? "nothing" : status_name((u32)status));
		exit(0);
	}
	for (u64 version = 1; version < 40; version++) {
		struct memx_head head;
		u8 *body;
		u64 tag = send_fetch(e, memx_le32(e->victim.extent) << e->granted.extent_order, 1, version);

		if (!answer_to(e, FETCH_LANE, tag, &head, &body, false))
			break;
		if (head.status == MEMX_S_OK) {
			printf("stolen: version %llu\n", (unsigned long long)version);
			exit(0);
		}
		free(body);
	}
	printf("%s\n", closed(e) ? "closed" : "nothing to steal");
	exit(0);
}

/* A second copy of the victim, restored from an older image: its lineage is not the one that the donors know. */
void t_clone(struct evil *e)
{
	u64 half[2] = { memx_xxh64(e->name, strlen(e->name), 0), memx_xxh64(e->name, strlen(e->name), 1) };
	int status;

	if (!e->has_victim)
		die("no victim given");
	memcpy(e->uuid, half, sizeof(e->uuid));
	greeted(e);
	e->epoch = 1000;
	status = attach(e, &e->victim, 1);
	printf("answered %s\n", status < 0 ? "nothing" : status_name((u32)status));
	exit(0);
}

void t_detach_epoch(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, MEMX_OP_DETACH, 0);
	head.epoch++;
	send_frame(e, STORE_LANE, &head, NULL);
	say_closed(e);
}

void t_detach_early(struct evil *e)
{
	struct memx_head head;

	greeted(e);
	head = request(e, MEMX_OP_DETACH, 0);
	send_frame(e, STORE_LANE, &head, NULL);
	say_closed(e);
}

void t_slots_huge(struct evil *e)
{
	struct memx_head head;
	struct memx_attach a;
	u64 tag;

	greeted(e);
	e->epoch = 1;
	head = request(e, MEMX_OP_ATTACH, sizeof(a));
	tag = head.tag;
	attach_body(e, &a, 0);
	a.slots = memx_put_le32(0xffffffff);
	send_frame(e, STORE_LANE, &head, &a);
	send_map(e, NULL, 0, true);
	say_answer(e, STORE_LANE, tag);
}

/* ---- tricks: the offer itself ---- */

void t_offer_small(struct evil *e)
{
	make_lanes(e);
	e->lane[FETCH_LANE].left_order = 20;
	close(e->lane[FETCH_LANE].memfd);
	e->lane[FETCH_LANE].memfd = memfd_create("small", MFD_ALLOW_SEALING);
	if (ftruncate(e->lane[FETCH_LANE].memfd, 8192) || fcntl(e->lane[FETCH_LANE].memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		die("memfd");
	offer(e);
	say_closed(e);
}

void t_offer_unsealed(struct evil *e)
{
	make_lanes(e);
	close(e->lane[FETCH_LANE].memfd);
	e->lane[FETCH_LANE].memfd = memfd_create("open", MFD_ALLOW_SEALING);
	if (ftruncate(e->lane[FETCH_LANE].memfd, 4 << 20))
		die("memfd");
	offer(e);
	say_closed(e);
}

void t_offer_orders(struct evil *e)
{
	make_lanes(e);
	e->lane[STORE_LANE].left_order = 60;
	offer(e);
	say_closed(e);
}

void t_offer_garbage(struct evil *e)
{
	enum outcome out;

	make_lanes(e);
	memset(scratch, 0x99, sizeof(struct memx_shm_msg));
	if (write(e->sock, scratch, sizeof(struct memx_shm_msg)) < 0)
		die("socket");
	while (!socket_says(e, &out))
		if (!wait_any(e, PATIENCE_MS))
			break;
	printf("socket closed\n");
	exit(0);
}

void t_offer_storm(struct evil *e)
{
	make_lanes(e);
	for (int i = 0; i < 300; i++) {
		memx_shm_lane_reset(&e->lane[0]);
		memx_shm_lane_reset(&e->lane[1]);
		e->offer = memx_random_u64();
		offer(e);
	}
	printf("sent\n");
	exit(0);
}

/* ---- tricks: noise ---- */

static u64 draw(struct evil *e)
{
	e->random ^= e->random >> 12;
	e->random ^= e->random << 25;
	e->random ^= e->random >> 27;
	return e->random * 0x2545f4914f6cdd1dULL;
}

/* Good frames of which some bytes were changed at random, until the relay has enough. */
void t_noise(struct evil *e)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_DISCARD, MEMX_OP_PING, MEMX_OP_ATTACH, MEMX_OP_MAP, MEMX_OP_DETACH,
				   MEMX_OP_RECORD, MEMX_OP_HELLO, MEMX_OP_FENCE, MEMX_OP_FREE };

	ready(e);
	for (u32 i = 0; i < 2000 && !closed(e); i++) {
		u16 op = ops[draw(e) % (sizeof(ops) / sizeof(*ops))];
		u32 pages = 1 + (u32)(draw(e) % 4), len, changes = (u32)(draw(e) % 4);
		struct memx_head head;
		struct memx_hdr hdr;

		len = op == MEMX_OP_STORE ? build_store(e, scratch, (u32)(draw(e) % SLOTS), pages, 1 + draw(e) % 50) :
		      op == MEMX_OP_DISCARD ? build_want(e, scratch, (u32)(draw(e) % SLOTS), pages, 1 + draw(e) % 50) :
		      op == MEMX_OP_ATTACH ? (u32)sizeof(struct memx_attach) : (u32)(draw(e) % 64);
		head = request(e, op, len);
		head.reply = !(draw(e) % 8);
		memx_hdr_put(&hdr, &head);
		for (; changes; changes--) {
			if (draw(e) % 2)
				((u8 *)&hdr)[draw(e) % sizeof(hdr)] ^= (u8)(1 << draw(e) % 8);
			else
				scratch[draw(e) % (len + 1)] ^= (u8)draw(e);
		}
		send_raw(e, STORE_LANE, &hdr, sizeof(hdr));
		send_raw(e, STORE_LANE, scratch, len);
	}
	say_closed(e);
}

void t_garbage(struct evil *e)
{
	make_lanes(e);
	offer(e);
	for (u32 n = 0; n < 400 && !closed(e); n++) {
		for (u32 i = 0; i < 512; i++)
			((u64 *)(void *)scratch)[i] = draw(e);
		send_raw(e, (int)(draw(e) % LANES), scratch, 4096);
	}
	say_closed(e);
}
