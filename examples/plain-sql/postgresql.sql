-- Adds a job, unless the owner has one by this key; says how it stands. In a transaction of yours:
--   psql shop -v owner=shop -v key=order-7 -f postgresql.sql \
--     -v request='{"image_url":"https://shop.example/shoe.jpg","type":"object"}'

INSERT INTO cutwork_job (
    id, kind, state, fence, tries, attempt, priority,
    owner, idempotency_key, request, request_digest, created_at, due_at
) VALUES (
    CAST(lpad(to_hex(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)), 12, '0')
        || '7' || substr(replace(CAST(gen_random_uuid() AS text), '-', ''), 14) AS uuid),
    'segmentation', 'queued', 0, 0, 0, 5,
    :'owner', :'key', CAST(CAST(:'request' AS text) AS jsonb),
    encode(sha256(convert_to(CAST(:'request' AS text), 'UTF8')), 'hex'),
    statement_timestamp(), statement_timestamp()
)
ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;

SELECT
    id, state, error_code, error,
    result #>> '{files,image,uri}' AS image,
    request_digest = encode(sha256(convert_to(CAST(:'request' AS text), 'UTF8')), 'hex') AS same_request
FROM cutwork_job
WHERE owner = :'owner' AND idempotency_key = :'key';
