import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from headrace.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnqueueRequest(_message.Message):
    __slots__ = ("job", "request_id", "durability")
    class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DURABILITY_UNSPECIFIED: _ClassVar[EnqueueRequest.Durability]
        DURABILITY_ACCEPTED: _ClassVar[EnqueueRequest.Durability]
        DURABILITY_FSYNCED: _ClassVar[EnqueueRequest.Durability]
        DURABILITY_REPLICATED: _ClassVar[EnqueueRequest.Durability]
    DURABILITY_UNSPECIFIED: EnqueueRequest.Durability
    DURABILITY_ACCEPTED: EnqueueRequest.Durability
    DURABILITY_FSYNCED: EnqueueRequest.Durability
    DURABILITY_REPLICATED: EnqueueRequest.Durability
    JOB_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.JobSpec
    request_id: str
    durability: EnqueueRequest.Durability
    def __init__(self, job: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., request_id: _Optional[str] = ..., durability: _Optional[_Union[EnqueueRequest.Durability, str]] = ...) -> None: ...

class EnqueueResponse(_message.Message):
    __slots__ = ("job_id", "state", "version", "create_time", "deduplicated", "durability")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DEDUPLICATED_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: _job_pb2.Job.State
    version: int
    create_time: _timestamp_pb2.Timestamp
    deduplicated: bool
    durability: EnqueueRequest.Durability
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[_job_pb2.Job.State, str]] = ..., version: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deduplicated: bool = ..., durability: _Optional[_Union[EnqueueRequest.Durability, str]] = ...) -> None: ...

class BatchEnqueueRequest(_message.Message):
    __slots__ = ("requests", "durability")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[EnqueueRequest]
    durability: EnqueueRequest.Durability
    def __init__(self, requests: _Optional[_Iterable[_Union[EnqueueRequest, _Mapping]]] = ..., durability: _Optional[_Union[EnqueueRequest.Durability, str]] = ...) -> None: ...

class BatchEnqueueResponse(_message.Message):
    __slots__ = ("results",)
    class Result(_message.Message):
        __slots__ = ("job", "error")
        JOB_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        job: EnqueueResponse
        error: _status_pb2.Status
        def __init__(self, job: _Optional[_Union[EnqueueResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchEnqueueResponse.Result]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchEnqueueResponse.Result, _Mapping]]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id", "raw")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    raw: bool
    def __init__(self, job_id: _Optional[str] = ..., raw: bool = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.Job
    def __init__(self, job: _Optional[_Union[_job_pb2.Job, _Mapping]] = ...) -> None: ...

class StreamStatusRequest(_message.Message):
    __slots__ = ("job_id", "after_version", "raw")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_version: int
    raw: bool
    def __init__(self, job_id: _Optional[str] = ..., after_version: _Optional[int] = ..., raw: bool = ...) -> None: ...

class StreamStatusResponse(_message.Message):
    __slots__ = ("kind", "job_id", "version", "state", "time", "attempt", "reason", "detail", "progress", "job")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[StreamStatusResponse.Kind]
        KIND_SNAPSHOT: _ClassVar[StreamStatusResponse.Kind]
        KIND_TRANSITION: _ClassVar[StreamStatusResponse.Kind]
        KIND_PROGRESS: _ClassVar[StreamStatusResponse.Kind]
        KIND_HEARTBEAT: _ClassVar[StreamStatusResponse.Kind]
        KIND_GOING_AWAY: _ClassVar[StreamStatusResponse.Kind]
    KIND_UNSPECIFIED: StreamStatusResponse.Kind
    KIND_SNAPSHOT: StreamStatusResponse.Kind
    KIND_TRANSITION: StreamStatusResponse.Kind
    KIND_PROGRESS: StreamStatusResponse.Kind
    KIND_HEARTBEAT: StreamStatusResponse.Kind
    KIND_GOING_AWAY: StreamStatusResponse.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    kind: StreamStatusResponse.Kind
    job_id: str
    version: int
    state: _job_pb2.Job.State
    time: _timestamp_pb2.Timestamp
    attempt: int
    reason: str
    detail: str
    progress: _job_pb2.Progress
    job: _job_pb2.Job
    def __init__(self, kind: _Optional[_Union[StreamStatusResponse.Kind, str]] = ..., job_id: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[_Union[_job_pb2.Job.State, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempt: _Optional[int] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., job: _Optional[_Union[_job_pb2.Job, _Mapping]] = ...) -> None: ...

class ListDLQRequest(_message.Message):
    __slots__ = ("queue", "page_size", "page_token")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queue: str
    page_size: int
    page_token: str
    def __init__(self, queue: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDLQResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token", "total_size")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_job_pb2.Job]
    next_page_token: str
    total_size: int
    def __init__(self, jobs: _Optional[_Iterable[_Union[_job_pb2.Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.Job
    def __init__(self, job: _Optional[_Union[_job_pb2.Job, _Mapping]] = ...) -> None: ...

class DeadLetterFilter(_message.Message):
    __slots__ = ("queue", "type", "labels", "reason", "start_time", "end_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    queue: str
    type: str
    labels: _containers.ScalarMap[str, str]
    reason: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, queue: _Optional[str] = ..., type: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., reason: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RequeueDLQRequest(_message.Message):
    __slots__ = ("job_ids", "filter", "validate_only", "page_token")
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    filter: DeadLetterFilter
    validate_only: bool
    page_token: str
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[DeadLetterFilter, _Mapping]] = ..., validate_only: bool = ..., page_token: _Optional[str] = ...) -> None: ...

class RequeueDLQResponse(_message.Message):
    __slots__ = ("requeued", "scanned", "skipped_job_ids", "next_page_token")
    REQUEUED_FIELD_NUMBER: _ClassVar[int]
    SCANNED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    requeued: int
    scanned: int
    skipped_job_ids: _containers.RepeatedScalarFieldContainer[str]
    next_page_token: str
    def __init__(self, requeued: _Optional[int] = ..., scanned: _Optional[int] = ..., skipped_job_ids: _Optional[_Iterable[str]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PurgeDLQRequest(_message.Message):
    __slots__ = ("job_ids", "filter", "force", "page_token")
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    filter: DeadLetterFilter
    force: bool
    page_token: str
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[DeadLetterFilter, _Mapping]] = ..., force: bool = ..., page_token: _Optional[str] = ...) -> None: ...

class PurgeDLQResponse(_message.Message):
    __slots__ = ("purged", "scanned", "skipped_job_ids", "next_page_token")
    PURGED_FIELD_NUMBER: _ClassVar[int]
    SCANNED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    purged: int
    scanned: int
    skipped_job_ids: _containers.RepeatedScalarFieldContainer[str]
    next_page_token: str
    def __init__(self, purged: _Optional[int] = ..., scanned: _Optional[int] = ..., skipped_job_ids: _Optional[_Iterable[str]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
