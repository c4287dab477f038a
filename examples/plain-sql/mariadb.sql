-- Adds a job, unless the owner has one by this key; says how it stands. In a transaction of yours,
-- after, for example:
--   SET @owner = 'shop', @key = 'order-7',
--     @request = '{"image_url":"https://shop.example/shoe.jpg","type":"object"}';

INSERT INTO cutwork_job (
    id, kind, state, fence, tries, attempt, priority,
    owner, idempotency_key, request, request_digest, created_at, due_at
) VALUES (
    CONCAT(LPAD(LOWER(HEX(FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000))), 12, '0'),
        '7', SUBSTR(SHA2(CONCAT(UUID(), RAND()), 256), 1, 3),
        '8', SUBSTR(SHA2(CONCAT(UUID(), RAND()), 256), 1, 15)),
    'segmentation', 'queued', 0, 0, 0, 5,
    @owner, @key, @request, SHA2(@request, 256),
    UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)
)
ON DUPLICATE KEY UPDATE id = cutwork_job.id;

SELECT
    id, state, error_code, error,
    JSON_UNQUOTE(JSON_EXTRACT(result, '$.files.image.uri')) AS image,
    request_digest = SHA2(@request, 256) AS same_request
FROM cutwork_job
WHERE owner = @owner AND idempotency_key = @key;
