-- Adds a job, unless the owner has one by this key; says how it stands. In a transaction of yours,
-- with the parameters :owner, :key, :request and :digest. SQLite has no SHA-256, so :digest is
-- made by the program: sha256 of the text of :request, as 64 hex digits in lower case.

INSERT INTO cutwork_job (
    id, kind, state, fence, tries, attempt, priority,
    owner, idempotency_key, request, request_digest, created_at, due_at
) VALUES (
    printf('%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        || '7' || substr(lower(hex(randomblob(2))), 2)
        || '8' || substr(lower(hex(randomblob(8))), 2),
    'segmentation', 'queued', 0, 0, 0, 5,
    :owner, :key, :request, :digest,
    strftime('%Y-%m-%d %H:%M:%f000', 'now'), strftime('%Y-%m-%d %H:%M:%f000', 'now')
)
ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;

SELECT
    id, state, error_code, error,
    json_extract(result, '$.files.image.uri') AS image,
    request_digest = :digest AS same_request
FROM cutwork_job
WHERE owner = :owner AND idempotency_key = :key;
