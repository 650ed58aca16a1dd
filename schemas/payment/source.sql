-- One shard set of the payment ledger. {schema} is a database, {n} the number of the shard set, the same in the name
-- of all its tables: shard set 07 is account_07, account_entry_07, voucher_07, payment_order_07, refund_07.

CREATE TABLE {schema}.account_{n} (
  id              BIGINT        NOT NULL COMMENT '账户号',
  user_id         BIGINT UNSIGNED NOT NULL,
  name            VARCHAR(64)   NOT NULL COMMENT '户名',
  kind            ENUM('USER','MERCHANT','COURIER','PLATFORM') NOT NULL,
  currency        CHAR(3)       NOT NULL,
  opening_balance DECIMAL(20,4) NOT NULL,
  balance         DECIMAL(20,4) NOT NULL,
  entry_seq       BIGINT        NOT NULL DEFAULT 0 COMMENT 'seq of the last entry',
  status          TINYINT       NOT NULL DEFAULT 1,
  remark          VARCHAR(255)  NULL,
  created_at      DATETIME(3)   NOT NULL,
  updated_at      TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  KEY idx_user (user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='账户';

CREATE TABLE {schema}.account_entry_{n} (
  id              BIGINT        NOT NULL,
  account_id      BIGINT        NOT NULL,
  seq             BIGINT        NOT NULL COMMENT '1, 2, 3 .. within the account',
  voucher_id      BIGINT        NOT NULL,
  direction       CHAR(1)       NOT NULL COMMENT 'D or C',
  amount          DECIMAL(20,4) NOT NULL,
  currency        CHAR(3)       NOT NULL,
  balance_before  DECIMAL(20,4) NOT NULL,
  balance_after   DECIMAL(20,4) NOT NULL,
  idempotency_key VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  summary         VARCHAR(128)  NULL COMMENT '摘要',
  created_at      DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_account_seq (account_id, seq),
  UNIQUE KEY uk_idempotency (idempotency_key)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='账户分录';

CREATE TABLE {schema}.voucher_{n} (
  id               BIGINT        NOT NULL,
  debit_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  kind             VARCHAR(16)   NOT NULL,
  amount           DECIMAL(20,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  legs             TINYINT UNSIGNED NOT NULL,
  idempotency_key  VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  memo             VARCHAR(255)  NULL,
  created_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_debit_account (debit_account_id, created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='记账凭证';

CREATE TABLE {schema}.payment_order_{n} (
  id                BIGINT        NOT NULL COMMENT 'the sharding key',
  voucher_id        BIGINT        NOT NULL,
  payer_account_id  BIGINT        NOT NULL,
  payee_account_id  BIGINT        NOT NULL,
  merchant_order_no VARCHAR(64)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT '商户订单号',
  locker            VARCHAR(64)   NOT NULL COMMENT '柜机',
  parcel_size       ENUM('S','M','L') NOT NULL,
  amount            DECIMAL(20,4) NOT NULL,
  currency          CHAR(3)       NOT NULL,
  channel           VARCHAR(16)   NOT NULL,
  idempotency_key   VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  note              TEXT          NULL,
  paid_at           DATETIME(3)   NOT NULL,
  updated_at        TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_payer (payer_account_id, paid_at),
  KEY idx_merchant_order (merchant_order_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='支付订单';

CREATE TABLE {schema}.refund_{n} (
  id              BIGINT        NOT NULL,
  order_id        BIGINT        NOT NULL COMMENT 'the sharding key',
  voucher_id      BIGINT        NOT NULL,
  amount          DECIMAL(20,4) NOT NULL,
  currency        CHAR(3)       NOT NULL,
  reason          VARCHAR(64)   NULL,
  idempotency_key VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  refunded_at     DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_order (order_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='退款';
