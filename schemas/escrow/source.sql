-- One shard set of the escrow ledger. {schema} is a database, {n} the number of the shard set.

CREATE TABLE {schema}.account_{n} (
  id              BIGINT        NOT NULL,
  kind            VARCHAR(16)   NOT NULL COMMENT 'REAL, BUYER, SELLER, PARTNER, PLATFORM, HOLD',
  side            VARCHAR(16)   NOT NULL COMMENT 'REAL (at the bank) or VIRTUAL',
  nature          CHAR(1)       NOT NULL COMMENT 'D or C: what raises the balance',
  currency        CHAR(3)       NOT NULL,
  opening_balance DECIMAL(24,4) NOT NULL,
  balance         DECIMAL(24,4) NOT NULL,
  entry_seq       BIGINT        NOT NULL DEFAULT 0,
  name            VARCHAR(64)   NOT NULL,
  created_at      DATETIME(3)   NOT NULL,
  updated_at      TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='真实与虚拟账户';

CREATE TABLE {schema}.entry_{n} (
  id              BIGINT        NOT NULL,
  account_id      BIGINT        NOT NULL COMMENT 'the sharding key',
  seq             BIGINT        NOT NULL COMMENT '1, 2, 3 .. within the account',
  voucher_id      BIGINT        NOT NULL,
  direction       CHAR(1)       NOT NULL COMMENT 'D or C',
  amount          DECIMAL(24,4) NOT NULL,
  currency        CHAR(3)       NOT NULL,
  balance_before  DECIMAL(24,4) NOT NULL,
  balance_after   DECIMAL(24,4) NOT NULL,
  idempotency_key VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at      DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_account_seq (account_id, seq),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_voucher (voucher_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='分录';

CREATE TABLE {schema}.voucher_{n} (
  id               BIGINT        NOT NULL,
  debit_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  kind             VARCHAR(16)   NOT NULL COMMENT 'the flow',
  stage            VARCHAR(16)   NOT NULL COMMENT 'the status that it led to',
  document_id      BIGINT        NOT NULL,
  amount           DECIMAL(24,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  legs             TINYINT UNSIGNED NOT NULL,
  idempotency_key  VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  memo             VARCHAR(255)  NULL,
  created_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_idempotency (idempotency_key)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='记账凭证';

CREATE TABLE {schema}.orders_{n} (
  id                BIGINT        NOT NULL,
  buyer_account_id  BIGINT        NOT NULL COMMENT 'the sharding key',
  hold_account_id   BIGINT        NOT NULL COMMENT 'where the money is held, on the same shard',
  seller_account_id BIGINT        NOT NULL,
  partner_account_id BIGINT       NOT NULL COMMENT 'agent or carrier, who gets a part of every release',
  platform_account_id BIGINT      NOT NULL,
  kind              VARCHAR(16)   NOT NULL,
  amount            DECIMAL(24,4) NOT NULL,
  released          DECIMAL(24,4) NOT NULL DEFAULT 0,
  refunded          DECIMAL(24,4) NOT NULL DEFAULT 0,
  currency          CHAR(3)       NOT NULL,
  instalments       INT           NOT NULL COMMENT 'how many were agreed',
  instalments_done  INT           NOT NULL DEFAULT 0,
  status            VARCHAR(16)   NOT NULL COMMENT 'HELD, DISPUTED, then RELEASED or REFUNDED',
  pay_voucher_id    BIGINT        NOT NULL,
  last_voucher_id   BIGINT        NOT NULL,
  order_no          VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  contract          TEXT          NULL,
  created_at        DATETIME(3)   NOT NULL,
  updated_at        TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  UNIQUE KEY uk_order_no (order_no),
  KEY idx_seller (seller_account_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='担保订单';

CREATE TABLE {schema}.hold_{n} (
  id               BIGINT        NOT NULL,
  order_id         BIGINT        NOT NULL,
  buyer_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  hold_account_id  BIGINT        NOT NULL,
  amount           DECIMAL(24,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  created_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_order (order_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='担保资金';

CREATE TABLE {schema}.instalment_{n} (
  id               BIGINT        NOT NULL,
  order_id         BIGINT        NOT NULL,
  buyer_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  number           INT           NOT NULL COMMENT '1, 2, 3 .. within the order',
  amount           DECIMAL(24,4) NOT NULL COMMENT 'what the hold lost',
  seller_amount    DECIMAL(24,4) NOT NULL,
  partner_amount   DECIMAL(24,4) NOT NULL,
  fee              DECIMAL(24,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  voucher_id       BIGINT        NOT NULL,
  released_at      DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  KEY idx_order (order_id, number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='分期放款';

CREATE TABLE {schema}.refund_{n} (
  id               BIGINT        NOT NULL,
  order_id         BIGINT        NOT NULL,
  buyer_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  amount           DECIMAL(24,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  reason           VARCHAR(64)   NULL,
  voucher_id       BIGINT        NOT NULL,
  refunded_at      DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  KEY idx_order (order_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='退款';
