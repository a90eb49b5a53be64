//! The one file with `unsafe`: librdkafka's admin interface as owned handles and owned results.
//!
//! Flow of a call:
//! 1. Arguments are copied into C objects, a number is drawn, and under that number a function is kept that
//!    reads the result and completes a channel.
//! 2. librdkafka gets the objects (it copies them), the number as the call's opaque pointer, and the client's
//!    one queue. It answers every call with exactly one event, by its request time-out at the latest.
//! 3. The polling thread takes the event off the queue, finds the function by the number, and drops the event.
//!
//! Guarantees:
//! - No pointer into Rust memory outlives a call: the opaque is a number, arguments are copied, results are
//!   read into owned values before their event is destroyed. A caller may stop waiting at any time.
//! - The native handle is destroyed by the polling thread, after everybody else let go of it, so that nobody
//!   waits for it in an async worker.
//! - No callback is registered: logs and errors arrive as events on the same queue, so that no Rust code runs
//!   on librdkafka's threads.
//!
//! Caveat: the generated bindings declare error codes as a Rust enum, but librdkafka passes on whatever number
//! a broker sent, and an unlisted one would be undefined behaviour. Functions that return such enums are
//! declared here once more with plain integers, and enum fields are read as integers.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::bindings as sys;
use sys::rd_kafka_admin_op_t as Op;
use tokio::sync::oneshot;

use super::coordinator::{NATIVE_TIMEOUT, UnderWay};
use super::error::{LOCAL_BAD_MSG, LOCAL_INVALID_ARG, RawError};
use super::live::Counted;
use super::types::{
    ClusterInfo, ConfigEntry, ConfigQuery, ConfigSource, GroupDescription, GroupKind, GroupListing,
    GroupMember, GroupState, Isolation, NewTopic, Node, OffsetQuery, OffsetSpec, PartitionMeta,
    TopicConfigChange, TopicDescription, TopicPartition,
};

/// Functions of librdkafka that pass error codes or other open sets of numbers, declared with integers.
mod open {
    use super::{c_char, c_int, sys};

    unsafe extern "C" {
        pub fn rd_kafka_err2str(err: c_int) -> *const c_char;
        pub fn rd_kafka_event_error(event: *mut sys::rd_kafka_event_t) -> c_int;
        pub fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> c_int;
        pub fn rd_kafka_topic_result_error(result: *const sys::rd_kafka_topic_result_t) -> c_int;
        pub fn rd_kafka_ConfigResource_error(resource: *const sys::rd_kafka_ConfigResource_t) -> c_int;
        pub fn rd_kafka_ConfigEntry_source(entry: *const sys::rd_kafka_ConfigEntry_t) -> c_int;
        pub fn rd_kafka_ConsumerGroupDescription_state(
            g: *const sys::rd_kafka_ConsumerGroupDescription_t,
        ) -> c_int;
        pub fn rd_kafka_ConsumerGroupDescription_type(
            g: *const sys::rd_kafka_ConsumerGroupDescription_t,
        ) -> c_int;
        pub fn rd_kafka_metadata(
            handle: *mut sys::rd_kafka_t,
            all_topics: c_int,
            only: *mut sys::rd_kafka_topic_t,
            metadata: *mut *const sys::rd_kafka_metadata,
            timeout_ms: c_int,
        ) -> c_int;
        pub fn rd_kafka_list_groups(
            handle: *mut sys::rd_kafka_t,
            only: *const c_char,
            groups: *mut *const sys::rd_kafka_group_list,
            timeout_ms: c_int,
        ) -> c_int;
    }
}

/// Outcome for each object of a call, in the order librdkafka gives, which is the order asked.
pub(super) type Outcomes<K, T> = Vec<(K, Result<T, RawError>)>;
/// The answer to one call; dropping it gives up on the answer.
pub(super) type Reply<T> = oneshot::Receiver<Result<T, RawError>>;
/// A topic as the full listing has it: name, partitions, error.
pub(super) type ListedTopic = (String, Vec<PartitionMeta>, Option<RawError>);

/// What happens besides answers, told from the polling thread.
pub(super) enum Notice {
    /// A connection failed; the text names the broker and the reason.
    ConnectionError { code: i32, text: String },
    /// A broker answered a call, be it with an error.
    Answered,
    /// A line of librdkafka's log, with syslog's level (3 error, 4 warning, 5 notice, 6 info, 7 debug).
    Log { level: i32, facility: String, text: String },
}

/// An admin call of librdkafka that takes a list of objects and copies it.
type ListCall<O> = unsafe extern "C" fn(
    *mut sys::rd_kafka_t,
    *mut *mut O,
    usize,
    *const sys::rd_kafka_AdminOptions_t,
    *mut sys::rd_kafka_queue_t,
);

type Completion = Box<dyn FnOnce(&Event) + Send>;

/// How long the polling thread sleeps at most when nothing happens. It is woken for everything that does.
const IDLE_POLL_MS: c_int = 60_000;
/// Poll interval while waiting for the last user to let go of the handle.
const CLOSING_POLL_MS: c_int = 10;
/// Room for librdkafka's own error texts.
const ERRSTR_LEN: usize = 512;

/// A native client, its result queue and the calls that wait for an answer.
pub(super) struct Native {
    handle: NonNull<sys::rd_kafka_t>,
    queue: NonNull<sys::rd_kafka_queue_t>,
    stopping: AtomicBool,
    next_call: AtomicUsize,
    pending: Mutex<HashMap<usize, Completion>>,
    /// The last field: it goes after the handle.
    _counted: Counted,
}

// SAFETY: librdkafka's handle and queues may be used from any thread at the same time; the remaining fields are
// `Send` and `Sync` by themselves.
unsafe impl Send for Native {}
// SAFETY: as above.
unsafe impl Sync for Native {}

impl Native {
    /// Creates the native client and its polling thread. Does not wait for a broker.
    pub fn start(
        config: &[(&'static str, String)],
        notify: impl Fn(Notice) + Send + 'static,
    ) -> Result<Arc<Self>, RawError> {
        let native = Arc::new(Self::create(config)?);
        let polled = Arc::clone(&native);
        thread::Builder::new()
            .name("kafka-poll".to_owned())
            .spawn(move || poll_until_unused(polled, &notify))
            .map_err(|e| RawError::new(LOCAL_INVALID_ARG, format!("no polling thread: {e}")))?;
        Ok(native)
    }

    fn create(config: &[(&'static str, String)]) -> Result<Self, RawError> {
        let conf = Owned::new(
            // SAFETY: no preconditions.
            unsafe { sys::rd_kafka_conf_new() },
            sys::rd_kafka_conf_destroy,
        )?;
        let mut errstr = ErrStr::new();
        for (key, value) in config {
            let name = c_string(key)?;
            let value = CString::new(value.as_str())
                .map_err(|_| RawError::new(LOCAL_INVALID_ARG, format!("{key} must not contain a NUL")))?;
            // SAFETY: both strings are NUL-terminated and outlive the call; the buffer has the length given.
            let set = unsafe {
                sys::rd_kafka_conf_set(conf.get(), name.as_ptr(), value.as_ptr(), errstr.ptr(), ERRSTR_LEN)
            };
            if set != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                return Err(RawError::new(LOCAL_INVALID_ARG, errstr.text()));
            }
        }
        // SAFETY: `conf` is live. On success `rd_kafka_new` takes it over; on failure it stays ours.
        let handle = unsafe {
            sys::rd_kafka_conf_set_events(conf.get(), sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG);
            // A consumer's handle, never subscribed: librdkafka 2.12 passes a coordinator that moved on to the
            // handle's own group, and a producer has none (it crashed there).
            sys::rd_kafka_new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, conf.get(), errstr.ptr(), ERRSTR_LEN)
        };
        let Some(handle) = NonNull::new(handle) else {
            return Err(RawError::new(LOCAL_INVALID_ARG, errstr.text()));
        };
        std::mem::forget(conf);

        // SAFETY: the handle is live; `rd_kafka_queue_new` does not fail. The main queue (errors) and the log
        // queue are forwarded to ours, which `Drop` undoes.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_new(handle.as_ptr());
            let main = sys::rd_kafka_queue_get_main(handle.as_ptr());
            sys::rd_kafka_queue_forward(main, queue);
            sys::rd_kafka_queue_destroy(main);
            let _ = sys::rd_kafka_set_log_queue(handle.as_ptr(), queue);
            NonNull::new_unchecked(queue)
        };
        Ok(Self {
            handle,
            queue,
            stopping: AtomicBool::new(false),
            next_call: AtomicUsize::new(1),
            pending: Mutex::new(HashMap::new()),
            _counted: Counted::new(),
        })
    }

    /// Tells the polling thread to end once it is the last owner. Does not wait.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // SAFETY: the queue lives as long as `self`.
        unsafe { sys::rd_kafka_queue_yield(self.queue.as_ptr()) };
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<usize, Completion>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, timeout_ms: c_int) -> Option<Event> {
        // SAFETY: the queue lives as long as `self`; the event is ours to destroy.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), timeout_ms) }).map(Event)
    }

    /// Issues one admin call: sets options, registers the reader of its result, hands over to librdkafka.
    fn call<T: Send + 'static>(
        &self,
        options: &CallOptions,
        read: impl FnOnce(&Event) -> Result<T, RawError> + Send + 'static,
        issue: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Reply<T>, RawError> {
        let native_options = options.build(self.handle.as_ptr())?;
        let (sender, receiver) = oneshot::channel();
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        let complete: Completion = Box::new(move |event| {
            if !sender.is_closed() {
                let _ = sender.send(event.failure().map_or_else(|| read(event), Err));
            }
        });
        self.pending().insert(id, complete);
        // SAFETY: the options are live; the opaque is a number that is never dereferenced.
        unsafe {
            sys::rd_kafka_AdminOptions_set_opaque(native_options.get(), ptr::without_provenance_mut(id));
        }
        issue(self.handle.as_ptr(), native_options.get(), self.queue.as_ptr());
        Ok(receiver)
    }

    /// A call that takes a list of objects: all those with the same signature in C.
    fn call_with<O, T: Send + 'static>(
        &self,
        options: &CallOptions,
        objects: &Objects<O>,
        function: ListCall<O>,
        read: impl FnOnce(&Event) -> Result<T, RawError> + Send + 'static,
    ) -> Result<Reply<T>, RawError> {
        self.call(options, read, |handle, options, queue| {
            let mut list = objects.pointers();
            // SAFETY: handle, options, queue and as many objects as told are live for the call, which copies
            // the objects. Only functions of this kind have this type.
            unsafe { function(handle, list.as_mut_ptr(), list.len(), options, queue) }
        })
    }

    pub fn describe_cluster(&self, timeout: Duration) -> Result<Reply<ClusterInfo>, RawError> {
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, timeout);
        self.call(&options, read_cluster, |handle, options, queue| {
            // SAFETY: all three are live for the call.
            unsafe { sys::rd_kafka_DescribeCluster(handle, options, queue) }
        })
    }

    /// Lists all topics. Blocks up to `timeout`.
    pub fn list_topics(&self, timeout: Duration) -> Result<Vec<ListedTopic>, RawError> {
        let metadata = self.metadata(1, ptr::null_mut(), timeout)?;
        // SAFETY: librdkafka filled the structure consistently and it lives until `metadata` is dropped.
        Ok(unsafe { read_metadata(metadata.get()) })
    }

    /// Metadata of all topics, or of one that was made of this handle.
    fn metadata(
        &self,
        all: c_int,
        only: *mut sys::rd_kafka_topic_t,
        timeout: Duration,
    ) -> Result<Owned<sys::rd_kafka_metadata>, RawError> {
        let mut metadata: *const sys::rd_kafka_metadata = ptr::null();
        let handle = self.handle.as_ptr();
        // SAFETY: handle and topic, if one is given, are live; `metadata` receives a pointer that is ours to destroy.
        let code =
            unsafe { open::rd_kafka_metadata(handle, all, only, &raw mut metadata, milliseconds(timeout)) };
        if code != 0 {
            // SAFETY: no words given.
            return Err(unsafe { raw_error(code, ptr::null()) });
        }
        Owned::new(metadata.cast_mut(), destroy_metadata)
    }

    /// Lists the groups of all brokers, of whatever protocol. Blocks up to `timeout`.
    pub fn list_groups(&self, timeout: Duration) -> Result<Vec<GroupListing>, RawError> {
        let mut groups: *const sys::rd_kafka_group_list = ptr::null();
        let handle = self.handle.as_ptr();
        // SAFETY: the handle is live, all groups are asked for, `groups` receives a pointer that is ours to destroy.
        let code = unsafe {
            open::rd_kafka_list_groups(handle, ptr::null(), &raw mut groups, milliseconds(timeout))
        };
        let groups =
            NonNull::new(groups.cast_mut()).map(|groups| Owned::new(groups.as_ptr(), destroy_groups));
        match groups.transpose()? {
            // A part of the list comes with the error of those who did not tell theirs.
            // SAFETY: librdkafka filled the structure consistently and it lives until `groups` is dropped.
            Some(groups) if code == 0 => Ok(unsafe { read_groups(groups.get()) }),
            // SAFETY: no words given.
            _ => Err(unsafe { raw_error(code, ptr::null()) }),
        }
    }

    /// Asks any broker for the list of brokers and the controller. Blocks up to `timeout`.
    pub fn refresh_brokers(&self, timeout: Duration) -> Result<(), RawError> {
        // librdkafka can ask for all topics, or for one: this one is any, and need not exist.
        let name = c_string("__consumer_offsets")?;
        let topic = Owned::new(
            // SAFETY: the handle is live, the string is NUL-terminated and copied by the call, no configuration given.
            unsafe { sys::rd_kafka_topic_new(self.handle.as_ptr(), name.as_ptr(), ptr::null_mut()) },
            sys::rd_kafka_topic_destroy,
        )?;
        self.metadata(0, topic.get(), timeout).map(drop)
    }

    pub fn describe_topics(
        &self,
        names: &[&String],
        timeout: Duration,
    ) -> Result<Reply<Outcomes<String, TopicDescription>>, RawError> {
        let texts = c_strings(names)?;
        let mut pointers = pointers(&texts);
        let collection = Owned::new(
            // SAFETY: as many NUL-terminated strings as told, copied by the call.
            unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) },
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
        self.call(&options, read_topic_descriptions, |handle, options, queue| {
            // SAFETY: all are live for the call, which copies the names.
            unsafe { sys::rd_kafka_DescribeTopics(handle, collection.get(), options, queue) }
        })
    }

    pub fn describe_configs(
        &self,
        queries: &[&ConfigQuery],
        timeout: Duration,
    ) -> Result<Reply<Outcomes<String, Vec<ConfigEntry>>>, RawError> {
        let resources = Objects::build(queries, queried_resource)?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
        self.call_with(&options, &resources, sys::rd_kafka_DescribeConfigs, read_configs)
    }

    pub fn describe_broker_config(
        &self,
        broker: i32,
        key: &str,
        timeout: Duration,
    ) -> Result<Reply<Outcomes<String, Vec<ConfigEntry>>>, RawError> {
        let resources = Objects::build(&[key], |key| {
            let broker =
                resource(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER, &broker.to_string())?;
            ask_for(&broker, key)?;
            Ok(broker)
        })?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
        self.call_with(&options, &resources, sys::rd_kafka_DescribeConfigs, read_configs)
    }

    pub fn create_topics(
        &self,
        topics: &[&NewTopic],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Reply<Outcomes<String, ()>>, RawError> {
        let topics = Objects::build(topics, new_topic)?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout);
        let options = options.validate_only(validate_only).wait_on_broker();
        self.call_with(&options, &topics, sys::rd_kafka_CreateTopics, read_created_topics)
    }

    pub fn create_partitions(
        &self,
        topics: &[&(String, i32)],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Reply<Outcomes<String, ()>>, RawError> {
        let growths = Objects::build(topics, |(topic, total)| new_partitions(topic, *total))?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, timeout);
        let options = options.validate_only(validate_only).wait_on_broker();
        self.call_with(&options, &growths, sys::rd_kafka_CreatePartitions, read_created_partitions)
    }

    pub fn incremental_alter_configs(
        &self,
        changes: &[&TopicConfigChange],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Reply<Outcomes<String, ()>>, RawError> {
        let changes = Objects::build(changes, config_change)?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout);
        let options = options.validate_only(validate_only);
        self.call_with(&options, &changes, sys::rd_kafka_IncrementalAlterConfigs, read_altered)
    }

    pub fn delete_topics(
        &self,
        names: &[&String],
        timeout: Duration,
    ) -> Result<Reply<Outcomes<String, ()>>, RawError> {
        let topics = Objects::build(names, |name| {
            let name = c_string(name)?;
            // SAFETY: a NUL-terminated string, copied by the call.
            let topic = unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) };
            Owned::new(topic, sys::rd_kafka_DeleteTopic_destroy)
        })?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DELETETOPICS, timeout).wait_on_broker();
        self.call_with(&options, &topics, sys::rd_kafka_DeleteTopics, read_deleted_topics)
    }

    /// Asks for offsets; no partition may occur twice, whatever end it asks for.
    pub fn list_offsets(
        &self,
        queries: &[&OffsetQuery],
        isolation: Isolation,
        timeout: Duration,
    ) -> Result<Reply<Outcomes<TopicPartition, i64>>, RawError> {
        let list = partition_list(queries.iter().map(|query| {
            let spec = match query.spec {
                OffsetSpec::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
                OffsetSpec::Latest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
            };
            (query.topic.as_str(), query.partition, spec as i64)
        }))?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout);
        let options = options.wait_on_broker().isolation(isolation);
        self.call(&options, read_offsets, |handle, options, queue| {
            // SAFETY: all are live for the call, which copies the list.
            unsafe { sys::rd_kafka_ListOffsets(handle, list.get(), options, queue) }
        })
    }

    /// `under_way` ends when librdkafka answers; see [`super::coordinator`].
    pub fn committed_offsets(
        &self,
        group: &str,
        under_way: UnderWay,
    ) -> Result<Reply<Outcomes<TopicPartition, Option<i64>>>, RawError> {
        let query = Objects::build(&[group], |group| {
            let name = c_string(group)?;
            // SAFETY: a NUL-terminated string, copied by the call; no list means all partitions.
            let query = unsafe { sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null()) };
            Owned::new(query, sys::rd_kafka_ListConsumerGroupOffsets_destroy)
        })?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, NATIVE_TIMEOUT);
        self.call_with(&options, &query, sys::rd_kafka_ListConsumerGroupOffsets, move |event| {
            drop(under_way);
            read_committed(event)
        })
    }

    /// `under_way` ends when librdkafka answers; see [`super::coordinator`].
    pub fn describe_group(
        &self,
        group: &str,
        under_way: UnderWay,
    ) -> Result<Reply<Outcomes<String, GroupDescription>>, RawError> {
        let name = c_string(group)?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, NATIVE_TIMEOUT);
        let read = move |event: &Event| {
            drop(under_way);
            read_group_descriptions(event)
        };
        self.call(&options, read, |handle, options, queue| {
            let mut list = [name.as_ptr()];
            let (names, count) = (list.as_mut_ptr(), list.len());
            // SAFETY: all are live for the call, which copies the name.
            unsafe { sys::rd_kafka_DescribeConsumerGroups(handle, names, count, options, queue) }
        })
    }

    pub fn delete_groups(
        &self,
        groups: &[&String],
        under_way: UnderWay,
    ) -> Result<Reply<Outcomes<String, ()>>, RawError> {
        let groups = Objects::build(groups, |group| {
            let name = c_string(group)?;
            // SAFETY: a NUL-terminated string, copied by the call.
            let group = unsafe { sys::rd_kafka_DeleteGroup_new(name.as_ptr()) };
            Owned::new(group, sys::rd_kafka_DeleteGroup_destroy)
        })?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DELETEGROUPS, NATIVE_TIMEOUT);
        self.call_with(&options, &groups, sys::rd_kafka_DeleteGroups, move |event| {
            drop(under_way);
            read_deleted_groups(event)
        })
    }

    pub fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<Reply<Outcomes<TopicPartition, i64>>, RawError> {
        let records = Objects::build(&[before], |before| {
            let bounds = before.iter().map(|(tp, offset)| (tp.topic.as_str(), tp.partition, *offset));
            let list = partition_list(bounds)?;
            // SAFETY: the list is live and copied by the call.
            let records = unsafe { sys::rd_kafka_DeleteRecords_new(list.get()) };
            Owned::new(records, sys::rd_kafka_DeleteRecords_destroy)
        })?;
        let options = CallOptions::new(Op::RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout).wait_on_broker();
        self.call_with(&options, &records, sys::rd_kafka_DeleteRecords, read_deleted_records)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: nobody else holds the handle or the queue. Forwarding ends before our queue does, and all
        // queues are given back before the handle is destroyed, as librdkafka demands.
        unsafe {
            let main = sys::rd_kafka_queue_get_main(self.handle.as_ptr());
            sys::rd_kafka_queue_forward(main, ptr::null_mut());
            sys::rd_kafka_queue_destroy(main);
            let _ = sys::rd_kafka_set_log_queue(self.handle.as_ptr(), ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
            // Nothing was consumed, so there is nothing to leave or commit.
            sys::rd_kafka_destroy_flags(self.handle.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

fn poll_until_unused(native: Arc<Native>, notify: &dyn Fn(Notice)) {
    while !native.stopping.load(Ordering::Acquire) {
        if let Some(event) = native.poll(IDLE_POLL_MS) {
            serve(&native, &event, notify);
        }
    }
    let mut native = native;
    loop {
        match Arc::try_unwrap(native) {
            Ok(last) => return drop(last),
            Err(shared) => native = shared,
        }
        if let Some(event) = native.poll(CLOSING_POLL_MS) {
            serve(&native, &event, notify);
        }
    }
}

fn serve(native: &Native, event: &Event, notify: &dyn Fn(Notice)) {
    match event.kind() {
        sys::RD_KAFKA_EVENT_LOG => {
            if let Some(notice) = event.log_line() {
                notify(notice);
            }
        }
        sys::RD_KAFKA_EVENT_ERROR => {
            if let Some(error) = event.failure() {
                notify(Notice::ConnectionError { code: error.code, text: error.message });
            }
        }
        _ => {
            if event.failure().is_none_or(|error| error.code > 0) {
                notify(Notice::Answered);
            }
            let complete = native.pending().remove(&event.call_id());
            if let Some(complete) = complete {
                complete(event);
            }
        }
    }
}

/// One event off the queue.
struct Event(NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours and not used any more.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

impl Event {
    fn kind(&self) -> i32 {
        // SAFETY: the event is live.
        unsafe { sys::rd_kafka_event_type(self.0.as_ptr()) }
    }

    fn call_id(&self) -> usize {
        // SAFETY: the event is live; the pointer is a number and never dereferenced.
        unsafe { sys::rd_kafka_event_opaque(self.0.as_ptr()) }.addr()
    }

    /// The error of the event as a whole.
    fn failure(&self) -> Option<RawError> {
        // SAFETY: the event is live; the text lives as long as the event.
        unsafe {
            let code = open::rd_kafka_event_error(self.0.as_ptr());
            (code != 0).then(|| raw_error(code, sys::rd_kafka_event_error_string(self.0.as_ptr())))
        }
    }

    fn log_line(&self) -> Option<Notice> {
        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is live; on success the two texts live as long as the event.
        unsafe {
            let status =
                sys::rd_kafka_event_log(self.0.as_ptr(), &raw mut facility, &raw mut line, &raw mut level);
            (status == 0).then(|| Notice::Log { level, facility: text(facility), text: text(line) })
        }
    }

    /// The typed result in the event; an error if it is of another type.
    fn result<R>(
        &self,
        get: unsafe extern "C" fn(*mut sys::rd_kafka_event_t) -> *const R,
    ) -> Result<*const R, RawError> {
        // SAFETY: the event is live, and librdkafka answers null when the type does not fit.
        let result = unsafe { get(self.0.as_ptr()) };
        if result.is_null() {
            Err(RawError::new(LOCAL_BAD_MSG, "unexpected kind of result"))
        } else {
            Ok(result)
        }
    }

    /// Reads a result that is a list of topics with an error each.
    fn topic_results<R>(
        &self,
        get: unsafe extern "C" fn(*mut sys::rd_kafka_event_t) -> *const R,
        list: unsafe extern "C" fn(*const R, *mut usize) -> *mut *const sys::rd_kafka_topic_result_t,
    ) -> Result<Outcomes<String, ()>, RawError> {
        let result = self.result(get)?;
        // SAFETY: the result and what it holds live as long as the event.
        Ok(unsafe {
            elements(|count| list(result, count))
                .map(|topic| {
                    let code = open::rd_kafka_topic_result_error(topic);
                    let words = sys::rd_kafka_topic_result_error_string(topic);
                    (text(sys::rd_kafka_topic_result_name(topic)), outcome(code, words, ()))
                })
                .collect()
        })
    }
}

fn read_created_topics(event: &Event) -> Result<Outcomes<String, ()>, RawError> {
    event.topic_results(sys::rd_kafka_event_CreateTopics_result, sys::rd_kafka_CreateTopics_result_topics)
}

fn read_created_partitions(event: &Event) -> Result<Outcomes<String, ()>, RawError> {
    event.topic_results(
        sys::rd_kafka_event_CreatePartitions_result,
        sys::rd_kafka_CreatePartitions_result_topics,
    )
}

fn read_deleted_topics(event: &Event) -> Result<Outcomes<String, ()>, RawError> {
    event.topic_results(sys::rd_kafka_event_DeleteTopics_result, sys::rd_kafka_DeleteTopics_result_topics)
}

fn read_cluster(event: &Event) -> Result<ClusterInfo, RawError> {
    let result = event.result(sys::rd_kafka_event_DescribeCluster_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe {
        let controller = sys::rd_kafka_DescribeCluster_result_controller(result);
        ClusterInfo {
            cluster_id: text(sys::rd_kafka_DescribeCluster_result_cluster_id(result)),
            controller_id: (!controller.is_null()).then(|| sys::rd_kafka_Node_id(controller)),
            nodes: elements(|count| sys::rd_kafka_DescribeCluster_result_nodes(result, count))
                .map(|node| Node {
                    id: sys::rd_kafka_Node_id(node),
                    host: text(sys::rd_kafka_Node_host(node)),
                    port: sys::rd_kafka_Node_port(node),
                    rack: optional_text(sys::rd_kafka_Node_rack(node)),
                })
                .collect(),
        }
    })
}

/// # Safety
/// `metadata` must point to a live structure that librdkafka filled.
unsafe fn read_metadata(metadata: *const sys::rd_kafka_metadata) -> Vec<ListedTopic> {
    // SAFETY: arrays hold as many elements as their counters tell; enum fields are read as integers.
    unsafe {
        (0..length((*metadata).topic_cnt))
            .map(|index| {
                let topic = (*metadata).topics.add(index);
                let partitions = (0..length((*topic).partition_cnt))
                    .map(|index| {
                        let partition = (*topic).partitions.add(index);
                        PartitionMeta {
                            id: (*partition).id,
                            leader: Some((*partition).leader).filter(|leader| *leader >= 0),
                            replicas: integers((*partition).replicas, (*partition).replica_cnt),
                            isr: integers((*partition).isrs, (*partition).isr_cnt),
                        }
                    })
                    .collect();
                let code = (&raw const (*topic).err).cast::<c_int>().read();
                let error = (code != 0).then(|| raw_error(code, ptr::null()));
                (text((*topic).topic), partitions, error)
            })
            .collect()
    }
}

fn read_topic_descriptions(event: &Event) -> Result<Outcomes<String, TopicDescription>, RawError> {
    let result = event.result(sys::rd_kafka_event_DescribeTopics_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe {
        elements(|count| sys::rd_kafka_DescribeTopics_result_topics(result, count))
            .map(|topic| {
                let name = text(sys::rd_kafka_TopicDescription_name(topic));
                let outcome = match object_error(sys::rd_kafka_TopicDescription_error(topic)) {
                    Some(error) => Err(error),
                    None => Ok(topic_description(name.clone(), topic)),
                };
                (name, outcome)
            })
            .collect()
    })
}

/// # Safety
/// `topic` must be live and without an error.
unsafe fn topic_description(
    name: String,
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> TopicDescription {
    // SAFETY: all that is read belongs to `topic`.
    unsafe {
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        TopicDescription {
            name,
            topic_id: if id.is_null() { String::new() } else { text(sys::rd_kafka_Uuid_base64str(id)) },
            internal: sys::rd_kafka_TopicDescription_is_internal(topic) != 0,
            partitions: elements(|count| sys::rd_kafka_TopicDescription_partitions(topic, count))
                .map(|partition| {
                    let leader = sys::rd_kafka_TopicPartitionInfo_leader(partition);
                    let ids = |nodes: Elements<sys::rd_kafka_Node_t>| {
                        nodes.map(|node| sys::rd_kafka_Node_id(node)).collect::<Vec<_>>()
                    };
                    PartitionMeta {
                        id: sys::rd_kafka_TopicPartitionInfo_partition(partition),
                        leader: (!leader.is_null())
                            .then(|| sys::rd_kafka_Node_id(leader))
                            .filter(|leader| *leader >= 0),
                        replicas: ids(elements(|n| sys::rd_kafka_TopicPartitionInfo_replicas(partition, n))),
                        isr: ids(elements(|n| sys::rd_kafka_TopicPartitionInfo_isr(partition, n))),
                    }
                })
                .collect(),
        }
    }
}

fn read_configs(event: &Event) -> Result<Outcomes<String, Vec<ConfigEntry>>, RawError> {
    let result = event.result(sys::rd_kafka_event_DescribeConfigs_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe {
        elements(|count| sys::rd_kafka_DescribeConfigs_result_resources(result, count))
            .map(|resource| {
                let code = open::rd_kafka_ConfigResource_error(resource);
                let entries = elements(|count| sys::rd_kafka_ConfigResource_configs(resource, count))
                    .map(|entry| ConfigEntry {
                        name: text(sys::rd_kafka_ConfigEntry_name(entry)),
                        value: optional_text(sys::rd_kafka_ConfigEntry_value(entry)),
                        source: config_source(open::rd_kafka_ConfigEntry_source(entry)),
                        read_only: sys::rd_kafka_ConfigEntry_is_read_only(entry) == 1,
                        sensitive: sys::rd_kafka_ConfigEntry_is_sensitive(entry) == 1,
                    })
                    .collect();
                let words = sys::rd_kafka_ConfigResource_error_string(resource);
                (text(sys::rd_kafka_ConfigResource_name(resource)), outcome(code, words, entries))
            })
            .collect()
    })
}

fn read_altered(event: &Event) -> Result<Outcomes<String, ()>, RawError> {
    let result = event.result(sys::rd_kafka_event_IncrementalAlterConfigs_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe {
        elements(|count| sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, count))
            .map(|resource| {
                let code = open::rd_kafka_ConfigResource_error(resource);
                let words = sys::rd_kafka_ConfigResource_error_string(resource);
                (text(sys::rd_kafka_ConfigResource_name(resource)), outcome(code, words, ()))
            })
            .collect()
    })
}

fn read_offsets(event: &Event) -> Result<Outcomes<TopicPartition, i64>, RawError> {
    let result = event.result(sys::rd_kafka_event_ListOffsets_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe {
        elements(|count| sys::rd_kafka_ListOffsets_result_infos(result, count))
            .map(|info| partition_offset(sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info)))
            .collect()
    })
}

fn read_committed(event: &Event) -> Result<Outcomes<TopicPartition, Option<i64>>, RawError> {
    let result = event.result(sys::rd_kafka_event_ListConsumerGroupOffsets_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    unsafe {
        let mut groups =
            elements(|count| sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, count));
        let group = groups.next().ok_or_else(|| RawError::new(LOCAL_BAD_MSG, "the answer names no group"))?;
        if let Some(error) = object_error(sys::rd_kafka_group_result_error(group)) {
            return Err(error);
        }
        let offsets = partition_offsets(sys::rd_kafka_group_result_partitions(group));
        Ok(offsets
            .into_iter()
            .map(|(partition, offset)| (partition, offset.map(|offset| Some(offset).filter(|o| *o >= 0))))
            .collect())
    }
}

/// # Safety
/// `groups` is a live list from `rd_kafka_list_groups`.
unsafe fn read_groups(groups: *const sys::rd_kafka_group_list) -> Vec<GroupListing> {
    // SAFETY: promised by the caller; the strings live as long as the list. Only the fields that are read are touched:
    // the error among them is an open set of numbers.
    unsafe {
        let (first, count) = ((*groups).groups, (*groups).group_cnt);
        (0..usize::try_from(count).unwrap_or(0))
            .map(|index| first.add(index))
            .map(|group| GroupListing { group: text((*group).group), protocol: text((*group).protocol_type) })
            .collect()
    }
}

fn read_group_descriptions(event: &Event) -> Result<Outcomes<String, GroupDescription>, RawError> {
    let result = event.result(sys::rd_kafka_event_DescribeConsumerGroups_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe {
        elements(|count| sys::rd_kafka_DescribeConsumerGroups_result_groups(result, count))
            .map(|group| {
                let name = text(sys::rd_kafka_ConsumerGroupDescription_group_id(group));
                let outcome = match object_error(sys::rd_kafka_ConsumerGroupDescription_error(group)) {
                    Some(error) => Err(error),
                    None => Ok(group_description(name.clone(), group)),
                };
                (name, outcome)
            })
            .collect()
    })
}

/// # Safety
/// `group` must be live and without an error.
unsafe fn group_description(
    name: String,
    group: *const sys::rd_kafka_ConsumerGroupDescription_t,
) -> GroupDescription {
    // SAFETY: all that is read belongs to `group`; members are asked for by indices below their count.
    unsafe {
        let coordinator = sys::rd_kafka_ConsumerGroupDescription_coordinator(group);
        GroupDescription {
            group: name,
            state: group_state(open::rd_kafka_ConsumerGroupDescription_state(group)),
            kind: group_kind(open::rd_kafka_ConsumerGroupDescription_type(group)),
            assignor: text(sys::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            coordinator: (!coordinator.is_null()).then(|| sys::rd_kafka_Node_id(coordinator)),
            members: (0..sys::rd_kafka_ConsumerGroupDescription_member_count(group))
                .map(|index| group_member(sys::rd_kafka_ConsumerGroupDescription_member(group, index)))
                .collect(),
        }
    }
}

/// # Safety
/// `member` must be live.
unsafe fn group_member(member: *const sys::rd_kafka_MemberDescription_t) -> GroupMember {
    // SAFETY: all that is read belongs to `member`.
    unsafe {
        let partitions = |assignment: *const sys::rd_kafka_MemberAssignment_t| {
            (!assignment.is_null()).then(|| {
                partition_offsets(sys::rd_kafka_MemberAssignment_partitions(assignment))
                    .into_iter()
                    .map(|(partition, _)| partition)
                    .collect::<Vec<_>>()
            })
        };
        GroupMember {
            id: text(sys::rd_kafka_MemberDescription_consumer_id(member)),
            instance_id: optional_text(sys::rd_kafka_MemberDescription_group_instance_id(member)),
            client_id: text(sys::rd_kafka_MemberDescription_client_id(member)),
            host: text(sys::rd_kafka_MemberDescription_host(member)),
            assignment: partitions(sys::rd_kafka_MemberDescription_assignment(member)).unwrap_or_default(),
            target: partitions(sys::rd_kafka_MemberDescription_target_assignment(member)),
        }
    }
}

fn read_deleted_groups(event: &Event) -> Result<Outcomes<String, ()>, RawError> {
    let result = event.result(sys::rd_kafka_event_DeleteGroups_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe {
        elements(|count| sys::rd_kafka_DeleteGroups_result_groups(result, count))
            .map(|group| {
                let error = object_error(sys::rd_kafka_group_result_error(group));
                (text(sys::rd_kafka_group_result_name(group)), error.map_or(Ok(()), Err))
            })
            .collect()
    })
}

fn read_deleted_records(event: &Event) -> Result<Outcomes<TopicPartition, i64>, RawError> {
    let result = event.result(sys::rd_kafka_event_DeleteRecords_result)?;
    // SAFETY: the result and what it holds live as long as the event.
    Ok(unsafe { partition_offsets(sys::rd_kafka_DeleteRecords_result_offsets(result)) })
}

/// # Safety
/// `list` must be null or live.
unsafe fn partition_offsets(
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> Outcomes<TopicPartition, i64> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list holds `cnt` elements.
    unsafe { (0..length((*list).cnt)).map(|index| partition_offset((*list).elems.add(index))).collect() }
}

/// # Safety
/// `partition` must be live.
unsafe fn partition_offset(
    partition: *const sys::rd_kafka_topic_partition_t,
) -> (TopicPartition, Result<i64, RawError>) {
    // SAFETY: fields are read one by one, the enum as an integer.
    unsafe {
        let name = TopicPartition { topic: text((*partition).topic), partition: (*partition).partition };
        let code = (&raw const (*partition).err).cast::<c_int>().read();
        (name, outcome(code, ptr::null(), (*partition).offset))
    }
}

fn config_source(number: c_int) -> ConfigSource {
    match number {
        1 => ConfigSource::DynamicTopic,
        2 => ConfigSource::DynamicBroker,
        3 => ConfigSource::DynamicDefaultBroker,
        4 => ConfigSource::StaticBroker,
        5 => ConfigSource::Default,
        8 => ConfigSource::Group,
        other => ConfigSource::Other(other),
    }
}

fn group_state(number: c_int) -> GroupState {
    match number {
        1 => GroupState::PreparingRebalance,
        2 => GroupState::CompletingRebalance,
        3 => GroupState::Stable,
        4 => GroupState::Dead,
        5 => GroupState::Empty,
        _ => GroupState::Unknown,
    }
}

fn group_kind(number: c_int) -> GroupKind {
    match number {
        1 => GroupKind::Consumer,
        2 => GroupKind::Classic,
        _ => GroupKind::Unknown,
    }
}

fn new_topic(topic: &NewTopic) -> Result<Owned<sys::rd_kafka_NewTopic_t>, RawError> {
    let name = c_string(&topic.name)?;
    let mut errstr = ErrStr::new();
    // SAFETY: a NUL-terminated string, copied by the call; the buffer has the length given.
    let new_topic = unsafe {
        sys::rd_kafka_NewTopic_new(
            name.as_ptr(),
            topic.partitions.unwrap_or(-1),
            topic.replication_factor.map_or(-1, c_int::from),
            errstr.ptr(),
            ERRSTR_LEN,
        )
    };
    if new_topic.is_null() {
        return Err(RawError::new(LOCAL_INVALID_ARG, errstr.text()));
    }
    let new_topic = Owned::new(new_topic, sys::rd_kafka_NewTopic_destroy)?;
    for (key, value) in &topic.config {
        let (key, value) = (c_string(key)?, c_string(value)?);
        // SAFETY: the topic is live, both strings are NUL-terminated and copied by the call. It returns only
        // codes of librdkafka's own.
        let _ = unsafe { sys::rd_kafka_NewTopic_set_config(new_topic.get(), key.as_ptr(), value.as_ptr()) };
    }
    Ok(new_topic)
}

fn new_partitions(topic: &str, total: i32) -> Result<Owned<sys::rd_kafka_NewPartitions_t>, RawError> {
    let name = c_string(topic)?;
    let total = usize::try_from(total)
        .map_err(|_| RawError::new(LOCAL_INVALID_ARG, format!("{total} is no number of partitions")))?;
    let mut errstr = ErrStr::new();
    // SAFETY: a NUL-terminated string, copied by the call; the buffer has the length given.
    let growth = unsafe { sys::rd_kafka_NewPartitions_new(name.as_ptr(), total, errstr.ptr(), ERRSTR_LEN) };
    if growth.is_null() {
        return Err(RawError::new(LOCAL_INVALID_ARG, errstr.text()));
    }
    Owned::new(growth, sys::rd_kafka_NewPartitions_destroy)
}

fn topic_resource(topic: &str) -> Result<Owned<sys::rd_kafka_ConfigResource_t>, RawError> {
    resource(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, topic)
}

fn resource(
    kind: sys::rd_kafka_ResourceType_t,
    name: &str,
) -> Result<Owned<sys::rd_kafka_ConfigResource_t>, RawError> {
    let name = c_string(name)?;
    Owned::new(
        // SAFETY: a NUL-terminated string, copied by the call.
        unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) },
        sys::rd_kafka_ConfigResource_destroy,
    )
}

/// Has one of a resource's keys told.
fn ask_for(resource: &Owned<sys::rd_kafka_ConfigResource_t>, key: &str) -> Result<(), RawError> {
    let key = c_string(key)?;
    // SAFETY: the resource is live; both strings are NUL-terminated and copied by the call. A value is wanted by the
    // function and not by the request.
    let code = unsafe { sys::rd_kafka_ConfigResource_set_config(resource.get(), key.as_ptr(), c"".as_ptr()) };
    if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        Ok(())
    } else {
        Err(RawError::new(LOCAL_INVALID_ARG, "a configuration key is not usable"))
    }
}

/// A topic with the keys that are asked for; none: all of them.
fn queried_resource(query: &ConfigQuery) -> Result<Owned<sys::rd_kafka_ConfigResource_t>, RawError> {
    let resource = topic_resource(&query.topic)?;
    for key in &query.keys {
        ask_for(&resource, key)?;
    }
    Ok(resource)
}

fn config_change(change: &TopicConfigChange) -> Result<Owned<sys::rd_kafka_ConfigResource_t>, RawError> {
    use sys::rd_kafka_AlterConfigOpType_t as Alter;

    let resource = topic_resource(&change.topic)?;
    let add = |key: &str, op: Alter, value: Option<&str>| {
        let key = c_string(key)?;
        let value = value.map(c_string).transpose()?;
        let value = value.as_deref().map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the resource is live; the strings are NUL-terminated (or null for a deletion) and copied by
        // the call; the error, if any, is ours.
        unsafe {
            let error =
                sys::rd_kafka_ConfigResource_add_incremental_config(resource.get(), key.as_ptr(), op, value);
            take_error(error)
        }
    };
    for (key, value) in &change.set {
        add(key, Alter::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, Some(value))?;
    }
    for key in change.delete.iter().filter(|key| !change.set.contains_key(*key)) {
        add(key, Alter::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, None)?;
    }
    Ok(resource)
}

fn partition_list<'a>(
    partitions: impl Iterator<Item = (&'a str, i32, i64)>,
) -> Result<Owned<sys::rd_kafka_topic_partition_list_t>, RawError> {
    let list = Owned::new(
        // SAFETY: no preconditions.
        unsafe { sys::rd_kafka_topic_partition_list_new(0) },
        sys::rd_kafka_topic_partition_list_destroy,
    )?;
    for (topic, partition, offset) in partitions {
        let topic = c_string(topic)?;
        // SAFETY: the list is live, the name is copied, and the element returned belongs to the list.
        unsafe {
            let element = sys::rd_kafka_topic_partition_list_add(list.get(), topic.as_ptr(), partition);
            (*element).offset = offset;
        }
    }
    Ok(list)
}

/// What one call asks of librdkafka besides its arguments.
struct CallOptions {
    op: Op,
    timeout: Duration,
    validate_only: bool,
    wait_on_broker: bool,
    isolation: Option<Isolation>,
}

impl CallOptions {
    fn new(op: Op, timeout: Duration) -> Self {
        Self { op, timeout, validate_only: false, wait_on_broker: false, isolation: None }
    }

    fn validate_only(mut self, yes: bool) -> Self {
        self.validate_only = yes;
        self
    }

    /// Lets the broker take most of the call's time, and leaves the rest for the way there and back.
    fn wait_on_broker(mut self) -> Self {
        self.wait_on_broker = true;
        self
    }

    fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    fn build(&self, handle: *mut sys::rd_kafka_t) -> Result<Owned<sys::rd_kafka_AdminOptions_t>, RawError> {
        let options = Owned::new(
            // SAFETY: the handle is live.
            unsafe { sys::rd_kafka_AdminOptions_new(handle, self.op) },
            sys::rd_kafka_AdminOptions_destroy,
        )?;
        let mut errstr = ErrStr::new();
        let request_ms = milliseconds(self.timeout);
        // SAFETY: the options are live and the buffer has the length given. The setters return codes of
        // librdkafka's own, which the bindings' enum knows; the last one's error is ours.
        unsafe {
            let ok = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let mut codes = vec![sys::rd_kafka_AdminOptions_set_request_timeout(
                options.get(),
                request_ms,
                errstr.ptr(),
                ERRSTR_LEN,
            )];
            if self.wait_on_broker {
                let broker_ms = (request_ms / 10 * 9).max(1);
                codes.push(sys::rd_kafka_AdminOptions_set_operation_timeout(
                    options.get(),
                    broker_ms,
                    errstr.ptr(),
                    ERRSTR_LEN,
                ));
            }
            if self.validate_only {
                codes.push(sys::rd_kafka_AdminOptions_set_validate_only(
                    options.get(),
                    1,
                    errstr.ptr(),
                    ERRSTR_LEN,
                ));
            }
            if codes.iter().any(|code| *code != ok) {
                return Err(RawError::new(LOCAL_INVALID_ARG, errstr.text()));
            }
            if let Some(isolation) = self.isolation {
                use sys::rd_kafka_IsolationLevel_t as Level;
                let level = match isolation {
                    Isolation::ReadUncommitted => Level::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
                    Isolation::ReadCommitted => Level::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
                };
                take_error(sys::rd_kafka_AdminOptions_set_isolation_level(options.get(), level))?;
            }
        }
        Ok(options)
    }
}

/// An object of librdkafka that is destroyed when dropped.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes over `pointer`, which `destroy` must fit; an error if it is null.
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, RawError> {
        NonNull::new(pointer)
            .map(|pointer| Self { pointer, destroy })
            .ok_or_else(|| RawError::new(LOCAL_INVALID_ARG, "librdkafka refuses the argument"))
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the object is ours, `destroy` is its destructor, and this runs once.
        unsafe { (self.destroy)(self.pointer.as_ptr()) };
    }
}

unsafe extern "C" fn destroy_groups(groups: *mut sys::rd_kafka_group_list) {
    // SAFETY: only called by `Owned` on what `rd_kafka_list_groups` returned.
    unsafe { sys::rd_kafka_group_list_destroy(groups) };
}

unsafe extern "C" fn destroy_metadata(metadata: *mut sys::rd_kafka_metadata) {
    // SAFETY: only called by `Owned` on what `rd_kafka_metadata` returned.
    unsafe { sys::rd_kafka_metadata_destroy(metadata) };
}

/// Objects of one kind, as librdkafka takes them: an array of pointers.
struct Objects<T>(Vec<Owned<T>>);

impl<T> Objects<T> {
    fn build<S: ?Sized>(
        sources: &[&S],
        build: impl Fn(&S) -> Result<Owned<T>, RawError>,
    ) -> Result<Self, RawError> {
        sources.iter().copied().map(build).collect::<Result<_, _>>().map(Self)
    }

    fn pointers(&self) -> Vec<*mut T> {
        self.0.iter().map(Owned::get).collect()
    }
}

/// A buffer for librdkafka's error texts.
struct ErrStr([c_char; ERRSTR_LEN]);

impl ErrStr {
    fn new() -> Self {
        Self([0; ERRSTR_LEN])
    }

    fn ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    fn text(&self) -> String {
        // SAFETY: librdkafka terminates what it writes, and the buffer starts out as all NULs.
        unsafe { text(self.0.as_ptr()) }
    }
}

type Elements<T> = std::vec::IntoIter<*const T>;

/// The array that a getter returns with its length; holes (objects the broker left out) are skipped.
///
/// # Safety
/// `get` must write the length and return an array of that length, or null with any length.
unsafe fn elements<T>(get: impl FnOnce(*mut usize) -> *mut *const T) -> Elements<T> {
    let mut count = 0;
    let array = get(&raw mut count);
    if array.is_null() {
        return Vec::new().into_iter();
    }
    // SAFETY: promised by the caller.
    let slice = unsafe { std::slice::from_raw_parts(array, count) };
    slice.iter().copied().filter(|element| !element.is_null()).collect::<Vec<_>>().into_iter()
}

/// # Safety
/// `array` must hold `count` integers, or be null.
unsafe fn integers(array: *const i32, count: c_int) -> Vec<i32> {
    if array.is_null() {
        return Vec::new();
    }
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(array, length(count)) }.to_vec()
}

/// # Safety
/// `pointer` must be null or a NUL-terminated text.
unsafe fn optional_text(pointer: *const c_char) -> Option<String> {
    // SAFETY: promised by the caller.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// # Safety
/// `pointer` must be null or a NUL-terminated text.
unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe { optional_text(pointer) }.unwrap_or_default()
}

/// An error with the words given, or librdkafka's own for the code.
///
/// # Safety
/// `words` must be null or a NUL-terminated text.
unsafe fn raw_error(code: c_int, words: *const c_char) -> RawError {
    // SAFETY: promised by the caller; librdkafka's own words are static or thread-local texts.
    let message = unsafe {
        optional_text(words)
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| text(open::rd_kafka_err2str(code)))
    };
    RawError::new(code, message)
}

/// Success if the code says so, else an error with the words given.
///
/// # Safety
/// `words` must be null or a NUL-terminated text.
unsafe fn outcome<T>(code: c_int, words: *const c_char, value: T) -> Result<T, RawError> {
    // SAFETY: promised by the caller.
    if code == 0 { Ok(value) } else { Err(unsafe { raw_error(code, words) }) }
}

/// # Safety
/// `error` must be null or live.
unsafe fn object_error(error: *const sys::rd_kafka_error_t) -> Option<RawError> {
    if error.is_null() {
        return None;
    }
    // SAFETY: promised by the caller; the text lives as long as the error.
    unsafe {
        let code = open::rd_kafka_error_code(error);
        (code != 0).then(|| raw_error(code, sys::rd_kafka_error_string(error)))
    }
}

/// Takes over an error object. Null is success.
///
/// # Safety
/// `error` must be null or live and ours.
unsafe fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), RawError> {
    if error.is_null() {
        return Ok(());
    }
    let error = Owned::new(error, sys::rd_kafka_error_destroy)?;
    // SAFETY: live until `error` is dropped.
    unsafe { object_error(error.get()) }.map_or(Ok(()), Err)
}

fn c_string(text: &str) -> Result<CString, RawError> {
    CString::new(text).map_err(|_| RawError::new(LOCAL_INVALID_ARG, format!("{text:?} contains a NUL")))
}

fn c_strings(texts: &[&String]) -> Result<Vec<CString>, RawError> {
    texts.iter().map(|text| c_string(text)).collect()
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}

fn length(count: c_int) -> usize {
    usize::try_from(count).unwrap_or(0)
}

/// Milliseconds as librdkafka takes them: 1 ms to an hour.
fn milliseconds(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX).clamp(1, 3_600_000)
}

const _: () = assert!(size_of::<usize>() == size_of::<*mut c_void>());

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const NOBODY: [(&str, &str); 2] = [("bootstrap.servers", "127.0.0.1:1"), ("log.queue", "true")];

    fn start() -> Arc<Native> {
        let config = NOBODY.map(|(key, value)| (key, value.to_owned()));
        Native::start(&config, |_| ()).expect("valid")
    }

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn the_native_client_goes_when_it_is_stopped_even_amid_calls() {
        let native = start();
        let gone = Arc::downgrade(&native);
        let kept = native.describe_cluster(Duration::from_secs(60)).expect("issued");
        drop(native.describe_cluster(Duration::from_secs(60)).expect("issued"));
        assert_eq!(native.pending().len(), 2);
        native.stop();
        drop(native);
        wait_until("the last owner is gone", || gone.strong_count() == 0);
        let outcome = kept.blocking_recv();
        assert!(outcome.is_err() || outcome.is_ok_and(|answer| answer.is_err()));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_cleared_away() {
        let native = start();
        drop(native.describe_cluster(Duration::from_millis(10)).expect("issued"));
        wait_until("the call is answered", || native.pending().is_empty());
        native.stop();
    }

    #[test]
    fn settings_with_a_nul_or_an_unknown_key_are_refused() {
        for (key, value) in [("client.id", "a\0b"), ("no.such.key", "1"), ("socket.timeout.ms", "many")] {
            let error = Native::start(&[(key, value.to_owned())], |_| ()).err().expect("refused");
            assert_eq!(error.code, LOCAL_INVALID_ARG);
            assert!(error.message.contains(key), "{}", error.message);
        }
    }
}
