/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * proto.h - every structure, code and limit of the MemX wire protocol.
 *
 * Two hops speak it: guest <-> relay over vchan lanes (the "guest hop") and relay <-> server over TCP (the "donor hop").
 * Both are byte streams of frames: a header of 32 bytes, then hdr.len bytes of body. All integers are little-endian, all
 * structures have a fixed size and offset, which the assertions at the end hold. docs/PROTOCOL.md is the specification;
 * shared/vectors/ has frames with their meaning, which the tests of kernel and user space both read.
 *
 * This file holds no policy. What a receiver must check before it uses a frame is in codec.h.
 */
#ifndef MEMX_PROTO_H
#define MEMX_PROTO_H

#include "port.h"

/* ---- limits ------------------------------------------------------------------------------------------------------- */

enum {
	MEMX_PROTO_MIN		= 1,	/* oldest version spoken */
	MEMX_PROTO_MAX		= 1,	/* newest version spoken */

	MEMX_PAGE_SHIFT		= 12,
	MEMX_PAGE_SIZE		= 1 << MEMX_PAGE_SHIFT,

	MEMX_MAX_PAGES		= 32,	/* pages in one STORE, FETCH or DISCARD; the kernel's SWAP_CLUSTER_MAX */
	MEMX_MAX_REPLICAS	= 4,	/* in one placement record */
	MEMX_MAX_COPIES		= MEMX_MAX_REPLICAS - 1,	/* of a page, granted: one place is for the replacement */
	MEMX_MAX_LINEAGE	= 4,	/* lineage ids presented: the current one and the last three */
	MEMX_MAX_RECORDS	= 16,	/* records in one MAP or RECORD frame */
	MEMX_MAX_EXTENTS	= 512,	/* extents named in one RETAIN or LIST frame */
	MEMX_MAX_SCAN		= 1024,	/* slots named in one SCAN reply */
	MEMX_MAX_PEERS		= 64,	/* donors named in one PEERS frame */
	MEMX_MAX_LANES		= 8,
	MEMX_LABEL_LEN		= 32,	/* failure domain, NUL-padded */

	MEMX_MIN_EXTENT_ORDER	= 6,	/* log2 of slots: 256 KiB */
	MEMX_MAX_EXTENT_ORDER	= 14,	/* 64 MiB */
	MEMX_DEF_EXTENT_ORDER	= 10,	/* 4 MiB */

	MEMX_VCHAN_MIN_ORDER	= 10,	/* libxenvchan's limits for a ring: 1 KiB ... */
	MEMX_VCHAN_MAX_ORDER	= 20,	/* ... 1 MiB */

	/*
	 * Requests that the relay itself may have unanswered on one lane (RECORD, PING). Each side keeps room for them in its
	 * sending ring beside its replies, so that neither can block the other: see MEMX_RESERVE_REPLY in codec.h.
	 */
	MEMX_RELAY_CREDITS	= 4,
};

#define MEMX_MAGIC		0x584d454dU	/* "MEMX" in the order of the bytes */

/* ---- operations --------------------------------------------------------------------------------------------------- */

#define MEMX_OP_REPLY		0x8000		/* or-ed to the operation that is answered */

enum memx_op {
	/* both hops */
	MEMX_OP_HELLO		= 1,	/* first frame of a stream, from the relay; its layout never changes */
	MEMX_OP_PING		= 2,	/* either side; empty body, empty reply */
	MEMX_OP_STORE		= 3,
	MEMX_OP_FETCH		= 4,
	MEMX_OP_DISCARD		= 5,

	/* guest hop */
	MEMX_OP_ATTACH		= 16,	/* guest: session, epoch (in the header), lineage, size */
	MEMX_OP_MAP		= 17,	/* guest: its records, behind ATTACH; unanswered, the ATTACH reply ends it */
	MEMX_OP_RECORD		= 18,	/* relay: new records; they take effect with the guest's reply */
	MEMX_OP_DETACH		= 19,	/* guest: free everything of this session (also answers on the donor hop) */

	/* donor hop, sent by the relay where nothing else is said (PIN: also by another donor) */
	MEMX_OP_FENCE		= 32,	/* open or create a session at an epoch; nothing older is served from then on */
	MEMX_OP_RESERVE		= 33,	/* set the pages that are reserved for a session here */
	MEMX_OP_PLACE		= 34,	/* create an extent, or raise its generation, by the record in the body */
	MEMX_OP_FREE		= 35,	/* give an extent up, if its generation is not newer than the one named */
	MEMX_OP_RETAIN		= 36,	/* what the guest's complete map names; the rest of older epochs goes */
	MEMX_OP_LIST		= 37,	/* extents held for a session */
	MEMX_OP_SCAN		= 38,	/* slots and versions held in an extent */
	MEMX_OP_STAT		= 39,	/* the donor's memory */
	MEMX_OP_PIN		= 40,	/* do you hold this extent at this generation, live? Then never drop it by yourself. */
	MEMX_OP_ASK		= 41,	/* donor to relay: please move this many pages away */
	MEMX_OP_PEERS		= 42,	/* where the other donors are */
	MEMX_OP_DROPPED		= 43,	/* donor to relay, unanswered: it dropped a copy, which another holder confirmed and pinned */
};

/* ---- status: one list for both hops -------------------------------------------------------------------------------- */

#define MEMX_STATUS_LIST(X)												\
	X(OK,		0,  "done")											\
	X(AGAIN,	1,  "not now; ask again later")									\
	X(PARTIAL,	2,  "some pages failed; each has a status of its own")						\
	X(NOSPACE,	3,  "no memory left for this at the donors or in the quota")					\
	X(ABSENT,	4,  "nothing is held for this slot or extent")							\
	X(VERSION,	5,  "the slot is held at another version than the one asked for")				\
	X(OLD,		6,  "a newer version of the slot is held; nothing was changed")					\
	X(GENERATION,	7,  "the extent is held at another generation")						\
	X(FENCED,	8,  "the epoch is older than the fence of this session")					\
	X(NOFENCE,	9,  "the epoch was not fenced here first")							\
	X(SUPERSEDED,	10, "another copy of this guest owns the session now")						\
	X(DENIED,	11, "this guest or relay is not allowed here")							\
	X(UNKNOWN,	12, "no such session or handle here")								\
	X(CORRUPT,	13, "the page does not match its check")							\
	X(OP,		14, "unknown operation")									\
	X(INVALID,	15, "value out of range")									\
	X(LIMIT,	16, "more outstanding or more objects than agreed")						\
	X(DRAINING,	17, "shutting down or emptied by its admin")							\
	X(IO,		18, "no replica answers")									\
	X(PROTO,	19, "no common protocol version")								\
	X(NODONOR,	20, "a donor named in the map is not configured here")						\
	X(MISMATCH,	21, "differs from what this session agreed on before")

enum memx_status {
#define MEMX_X(name, code, text) MEMX_S_##name = (code),
	MEMX_STATUS_LIST(MEMX_X)
#undef MEMX_X
	MEMX_S_COUNT
};

/* ---- the frame ---------------------------------------------------------------------------------------------------- */

struct memx_hdr {
	__le32 magic;
	__le16 op;		/* enum memx_op, MEMX_OP_REPLY or-ed in for a reply */
	__le16 flags;		/* MEMX_F_* */
	__le32 len;		/* bytes that follow this header */
	__le32 status;		/* enum memx_status; 0 in a request */
	__le64 tag;		/* the asker's; returned in the reply; each direction has its own */
	__le64 epoch;		/* of the session; 0 where there is none yet */
};

enum {
	MEMX_F_LAST		= 1 << 0,	/* MAP, RETAIN, LIST, SCAN: no more frames of this list */
	MEMX_F_FIRST		= 1 << 1,	/* RETAIN: the list begins here */
	MEMX_F_REPAIR		= 1 << 2,	/* STORE, FETCH on the donor hop: background work, may queue behind others */
	MEMX_F_ALL		= MEMX_F_LAST | MEMX_F_FIRST | MEMX_F_REPAIR,
};

/* HELLO, both directions. Sixty-four bytes for ever; a later version puts more into other operations. */
struct memx_hello {
	__le16 proto_min;
	__le16 proto_max;
	__le16 proto;		/* reply: the version chosen; 0 with status PROTO */
	u8 role;		/* enum memx_role of the sender */
	u8 lane;		/* guest hop: index of this lane */
	__le64 features;	/* request: offered; reply: used, a subset */
	__le64 offer;		/* guest hop: the nonce of the offer in XenStore, returned by the relay; 0 on the donor hop */
	__le64 instance;	/* of the sending process or store: new whenever its memory is */
	u8 id[16];		/* donor: its persistent id; relay: its host's id; guest: zero */
	u8 lanes;		/* guest hop, reply: number of lanes of this offer */
	u8 lane_kind;		/* guest hop, reply: enum memx_lane_kind */
	u8 resv[14];
};

enum memx_role {
	MEMX_ROLE_GUEST		= 1,
	MEMX_ROLE_RELAY		= 2,
	MEMX_ROLE_DONOR		= 3,
	MEMX_ROLE_ADMIN		= 4,
};

enum memx_lane_kind {
	MEMX_LANE_FETCH		= 1,	/* FETCH only, and PING */
	MEMX_LANE_STORE		= 2,	/* STORE, DISCARD, RECORD, and the control operations on the first of them */
};

/* Features: none is needed by version 1; the bits are negotiated all the same. */
enum {
	MEMX_FEATURE_SEAL	= 1 << 0,	/* trailers may hold a seal tag in place of a check */
	MEMX_FEATURE_RECLAIM	= 1 << 1,	/* donor hop: ASK, PEERS, DROPPED, and PIN with record and versions */
	MEMX_FEATURE_ATTEMPTS	= 1 << 2,	/* guest hop: ATTACH tells attempts; else they are 0 */
};

/*
 * Thirty-two bytes beside each page, kept by donors and returned verbatim. A donor reads the version; relays and donors may
 * verify the check where MEMX_T_SEALED is not set; all else is the guest's.
 */
struct memx_trailer {
	__le64 version;		/* of the slot, raised by the guest with every store and discard; never 0 */
	__le64 check;		/* memx_check() of the page, or the first half of the seal tag */
	__le64 seal;		/* second half of the seal tag; 0 if not sealed */
	__le32 key_gen;		/* generation of the sealing key; 0 if not sealed */
	__le32 flags;		/* MEMX_T_* */
};

enum {
	MEMX_T_SEALED		= 1 << 0,
};

/* Head of the body of STORE, FETCH, DISCARD and of their replies. All slots of one request lie in one extent. */
struct memx_io {
	__le32 session;		/* donor hop: the handle from the FENCE reply; 0 on the guest hop */
	__le32 extent;
	__le64 generation;	/* donor hop: of the extent's record; guest hop: the one that the guest holds, 0 if none */
	__le16 count;		/* 1 .. MEMX_MAX_PAGES */
	__le16 flags;		/* 0 */
	__le32 resv;
};

/*
 * STORE:		memx_io, count x memx_page, count x page
 * STORE reply:		memx_io; with status PARTIAL also count x memx_want (its status says how each page fared)
 * FETCH:		memx_io, count x memx_want (version: the one that is wanted)
 * FETCH reply:		memx_io, count x memx_page, then the pages of those whose status is OK, in order.
 *			Status OK: all are; PARTIAL: at least one is not. Any other status: memx_io alone.
 * DISCARD:		memx_io, count x memx_want (version: that of the discard itself)
 * DISCARD reply:	like that of STORE
 */
struct memx_page {
	__le32 slot;		/* absolute in the session, not in the extent */
	__le32 status;		/* in a FETCH reply; else 0 */
	struct memx_trailer trailer;
};

struct memx_want {
	__le32 slot;
	__le32 status;		/* in a reply and in SCAN; else 0 */
	__le64 version;
};

/* ---- placement ---------------------------------------------------------------------------------------------------- */

enum memx_replica_state {
	MEMX_R_NONE		= 0,	/* unused place in the record */
	MEMX_R_LIVE		= 1,	/* holds every acknowledged page of the extent */
	MEMX_R_SYNCING		= 2,	/* takes stores; serves only slots whose version matches */
	MEMX_R_STALE		= 3,	/* dropped: takes nothing; a last resort where the version matches */
};

struct memx_replica {
	u8 donor[16];		/* persistent id of the donor, never an address */
	__le64 instance;	/* of the donor's store: another one holds nothing of this */
	u8 state;		/* enum memx_replica_state */
	u8 resv[7];
};

struct memx_record {
	__le32 extent;
	u8 replicas;		/* 1 .. MEMX_MAX_REPLICAS places used, from the front */
	u8 resv[3];
	__le64 generation;	/* raised with every change; never 0 */
	struct memx_replica replica[MEMX_MAX_REPLICAS];
};

/* MAP (guest), RECORD (relay): memx_records, count x memx_record. RECORD reply: empty, status OK, or INVALID and nothing was taken. */
struct memx_records {
	__le32 count;		/* RECORD: 1 .. MEMX_MAX_RECORDS; MAP: may be 0 with MEMX_F_LAST */
	__le32 resv;
};

/* ---- attaching ---------------------------------------------------------------------------------------------------- */

/* ATTACH: followed by MAP frames, the last of which has MEMX_F_LAST; also where there is no record yet. */
struct memx_attach {
	u8 session[16];		/* random, drawn at the first attach of a module load */
	__le64 lineage[MEMX_MAX_LINEAGE];	/* [0]: the current one; then those before it; 0: none */
	__le32 slots;		/* wanted; 0: what the quota allows. Once swapon froze it: exactly that */
	__le32 records;		/* number of records that follow in MAP frames */
	u8 extent_order;	/* 0 at the first attach, later what was agreed */
	u8 replicas;		/* copies wanted; 0: what Dom0 configured */
	__le16 flags;		/* MEMX_ATTACH_* */
	__le32 attempts;	/* epochs since that of the last ATTACH that was granted; 0: none was yet, or not told */
};

enum {
	MEMX_ATTACH_FROZEN	= 1 << 0,	/* swapon happened: slots and extent_order must stay as they are */
};

struct memx_attached {		/* ATTACH reply; with a status other than OK only retry_ms means something */
	__le32 slots;		/* granted, a multiple of nothing in particular, at least 1 extent */
	u8 extent_order;
	u8 replicas;
	u8 max_pages;		/* per request, 1 .. MEMX_MAX_PAGES */
	u8 resv;
	__le32 lane_requests;	/* requests that may be unanswered on one lane, all kinds together */
	__le32 lane_pages;	/* pages in unanswered requests on one lane */
	__le32 retry_ms;	/* refused: ask again after so long; 0: when this relay offers anew */
	__le32 resv2;
};

/* ---- donor hop ---------------------------------------------------------------------------------------------------- */

struct memx_fence {
	u8 vm[16];		/* the guest's UUID, as the toolstack wrote it */
	u8 session[16];
	__le64 lineage[MEMX_MAX_LINEAGE];
	__le32 slots;		/* size of the session; 0 leaves it */
	u8 extent_order;
	u8 flags;		/* MEMX_FENCE_* */
	__le16 resv;
};

enum {
	MEMX_FENCE_CREATE	= 1 << 0,	/* make the session where it is not known; else status UNKNOWN */
};

struct memx_fenced {		/* FENCE reply, also with FENCED and SUPERSEDED */
	__le32 session;		/* handle, valid on this connection only; never 0 with status OK */
	__le32 extents;		/* held now */
	__le64 epoch;		/* the donor's fence */
	__le64 pages_used;
	__le64 pages_reserved;
};

struct memx_reserve {		/* RESERVE; the reply is empty */
	__le32 session;
	__le32 resv;
	__le64 pages;		/* in all, not in addition; what is used counts into it */
};

struct memx_place {		/* PLACE; the reply is empty */
	__le32 session;
	__le32 flags;		/* MEMX_PLACE_* */
	struct memx_record record;	/* names the donor that it is sent to, with its instance */
};

enum {
	MEMX_PLACE_CREATE	= 1 << 0,	/* the extent may be made here; without it ABSENT where it is not held */
	MEMX_PLACE_IN_FORCE	= 1 << 1,	/* feature RECLAIM: the guest has acknowledged this record */
};

struct memx_extent_ref {	/* body of FREE and SCAN and element of RETAIN and LIST */
	__le32 extent;
	__le32 slot;		/* SCAN: first slot wanted; else 0 */
	__le64 generation;	/* FREE: gives up what is not newer; RETAIN: informative; LIST: held */
};

/*
 * FREE, SCAN:		memx_list with count 1, memx_extent_ref. FREE reply: empty
 * SCAN reply:		memx_list, count x memx_want (slot, version; status OK page held, ABSENT discarded); MEMX_F_LAST or ask on
 * RETAIN:		memx_list, count x memx_extent_ref; FIRST and LAST delimit it; the reply to LAST tells in `session` how many extents went
 * LIST:		memx_list with count 1, memx_extent_ref (first extent wanted); the reply: memx_list, count x memx_extent_ref
 * DETACH:		memx_list with count 0 (guest hop: empty body); the reply is empty
 * PEERS:		memx_list with session 0, count x memx_peer; the reply is empty
 * DROPPED:		memx_list, count x memx_extent_ref (generation: the one that it was held at); not answered
 */
struct memx_list {
	__le32 session;
	__le32 count;
};

struct memx_stat {		/* STAT reply; the request is empty. Also ASK (pages_asked) */
	__le64 pages_total;	/* that this donor would give */
	__le64 pages_used;
	__le64 pages_reserved;	/* promised, used ones included */
	__le64 pages_asked;	/* that the donor wants back now */
	__le32 sessions;
	__le32 flags;		/* MEMX_STAT_* */
	char domain[MEMX_LABEL_LEN];	/* failure domain, NUL-padded */
};

enum {
	MEMX_STAT_DRAINING	= 1 << 0,	/* takes no new extents */
};

struct memx_peer {
	u8 id[16];		/* of a donor */
	u8 address[16];		/* IPv6, or IPv4 mapped into it; network order */
	__le16 port;
	u8 resv[6];
};

/*
 * PIN; the reply is empty. A donor that wants to drop its copy adds what the other one must have: the record by which it holds
 * the extent, and the version of each slot, le64, 0 for one that was never touched. The header has the epoch of its fence.
 */
struct memx_pin {
	u8 vm[16];
	u8 session[16];
	__le32 extent;
	__le32 resv;
	__le64 generation;
};

/* ---- the vchan's shared page, as libxenvchan lays it out ------------------------------------------------------------ */

struct memx_vchan_ring {
	u32 cons;
	u32 prod;
};

struct memx_vchan_page {
	struct memx_vchan_ring left;	/* client to server: replies of the relay */
	struct memx_vchan_ring right;	/* server to client: requests of the guest */
	u16 left_order;
	u16 right_order;
	u8 cli_live;		/* 2: never connected, 1: there, 0: gone */
	u8 srv_live;
	u8 cli_notify;		/* what the server is to be notified of: MEMX_VCHAN_WRITE, _READ (the client tests it) */
	u8 srv_notify;		/* what the client is to be notified of (the server tests it) */
	u32 grants[];		/* of the left ring, then of the right */
};

enum {
	MEMX_VCHAN_WRITE	= 1,	/* tell me when you have written */
	MEMX_VCHAN_READ		= 2,	/* tell me when you have read */
};

/* ---- held by the compiler ------------------------------------------------------------------------------------------- */

#define MEMX_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " changed its size")
#define MEMX_AT(type, field, off) _Static_assert(offsetof(struct type, field) == (off), #type "." #field " moved")

MEMX_SIZE(memx_hdr, 32);
MEMX_AT(memx_hdr, op, 4);
MEMX_AT(memx_hdr, flags, 6);
MEMX_AT(memx_hdr, len, 8);
MEMX_AT(memx_hdr, status, 12);
MEMX_AT(memx_hdr, tag, 16);
MEMX_AT(memx_hdr, epoch, 24);
MEMX_SIZE(memx_hello, 64);
MEMX_AT(memx_hello, role, 6);
MEMX_AT(memx_hello, features, 8);
MEMX_AT(memx_hello, offer, 16);
MEMX_AT(memx_hello, instance, 24);
MEMX_AT(memx_hello, id, 32);
MEMX_AT(memx_hello, lanes, 48);
MEMX_SIZE(memx_trailer, 32);
MEMX_AT(memx_trailer, check, 8);
MEMX_AT(memx_trailer, seal, 16);
MEMX_AT(memx_trailer, key_gen, 24);
MEMX_SIZE(memx_io, 24);
MEMX_AT(memx_io, generation, 8);
MEMX_AT(memx_io, count, 16);
MEMX_SIZE(memx_page, 40);
MEMX_AT(memx_page, trailer, 8);
MEMX_SIZE(memx_want, 16);
MEMX_AT(memx_want, version, 8);
MEMX_SIZE(memx_replica, 32);
MEMX_AT(memx_replica, instance, 16);
MEMX_AT(memx_replica, state, 24);
MEMX_SIZE(memx_record, 144);
MEMX_AT(memx_record, generation, 8);
MEMX_AT(memx_record, replica, 16);
MEMX_SIZE(memx_records, 8);
MEMX_SIZE(memx_attach, 64);
MEMX_AT(memx_attach, lineage, 16);
MEMX_AT(memx_attach, slots, 48);
MEMX_AT(memx_attach, extent_order, 56);
MEMX_SIZE(memx_attached, 24);
MEMX_AT(memx_attached, lane_requests, 8);
MEMX_SIZE(memx_fence, 72);
MEMX_AT(memx_fence, lineage, 32);
MEMX_AT(memx_fence, slots, 64);
MEMX_SIZE(memx_fenced, 32);
MEMX_AT(memx_fenced, epoch, 8);
MEMX_SIZE(memx_reserve, 16);
MEMX_SIZE(memx_place, 152);
MEMX_AT(memx_place, record, 8);
MEMX_SIZE(memx_extent_ref, 16);
MEMX_SIZE(memx_list, 8);
MEMX_SIZE(memx_stat, 72);
MEMX_AT(memx_stat, domain, 40);
MEMX_SIZE(memx_pin, 48);
MEMX_SIZE(memx_peer, 40);
MEMX_AT(memx_peer, address, 16);
MEMX_AT(memx_peer, port, 32);
MEMX_SIZE(memx_vchan_page, 24);
MEMX_AT(memx_vchan_page, right, 8);
MEMX_AT(memx_vchan_page, left_order, 16);
MEMX_AT(memx_vchan_page, cli_live, 20);
MEMX_AT(memx_vchan_page, srv_notify, 23);
MEMX_AT(memx_vchan_page, grants, 24);

#endif /* MEMX_PROTO_H */
