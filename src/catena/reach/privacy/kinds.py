"""The kinds of private text that detectors find, in one table: what each is and how private it makes a text."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Group = Literal["person", "contact", "place", "organisation", "number", "credential", "health", "attribute", "time"]


class Kind(Struct, frozen=True):
    """One kind of span: its group, the level of a text that holds it, and its name in both languages."""

    group: Group
    level: Literal["internal", "personal", "secret"]
    english: str
    chinese: str


KINDS: dict[str, Kind] = {
    "person": Kind("person", "personal", "name", "姓名"),
    "username": Kind("person", "personal", "user name", "用户名"),
    "email": Kind("contact", "personal", "e-mail address", "邮箱"),
    "phone": Kind("contact", "personal", "phone number", "电话"),
    "social_account": Kind("contact", "personal", "account of a service", "社交账号"),
    "url": Kind("contact", "personal", "address of a page of a person", "个人网址"),
    "address": Kind("place", "personal", "address", "地址"),
    "postcode": Kind("place", "personal", "postcode", "邮编"),
    "place": Kind("place", "internal", "place tied to a person", "地点"),
    "gps": Kind("place", "personal", "coordinates", "坐标"),
    "organisation": Kind("organisation", "internal", "organisation", "单位"),
    "job_title": Kind("organisation", "internal", "job title", "职务"),
    "school": Kind("organisation", "internal", "school", "学校"),
    "national_id": Kind("number", "personal", "national identity number", "身份证号"),
    "social_security": Kind("number", "personal", "social security number", "社保号"),
    "passport": Kind("number", "personal", "passport number", "护照号"),
    "driver_licence": Kind("number", "personal", "driving licence number", "驾照号"),
    "travel_permit": Kind("number", "personal", "travel permit number", "通行证号"),
    "licence_plate": Kind("number", "personal", "licence plate", "车牌号"),
    "vehicle_id": Kind("number", "personal", "vehicle identification number", "车架号"),
    "tax_id": Kind("number", "personal", "tax number", "税号"),
    "company_id": Kind("number", "internal", "company number", "统一社会信用代码"),
    "bank_card": Kind("number", "personal", "card number", "银行卡号"),
    "card_code": Kind("number", "secret", "card security code", "卡片安全码"),
    "bank_account": Kind("number", "personal", "account number", "银行账号"),
    "iban": Kind("number", "personal", "IBAN", "IBAN"),
    "routing_number": Kind("number", "internal", "bank routing code", "联行号"),
    "crypto_wallet": Kind("number", "personal", "crypto wallet", "加密货币钱包"),
    "medical_record": Kind("number", "personal", "medical record number", "病历号"),
    "insurance_id": Kind("number", "personal", "insurance number", "保险号"),
    "case_number": Kind("number", "personal", "case number", "案号"),
    "employee_id": Kind("number", "personal", "employee number", "工号"),
    "customer_id": Kind("number", "personal", "customer number", "客户号"),
    "student_id": Kind("number", "personal", "student number", "学号"),
    "licence_number": Kind("number", "personal", "number of a professional licence", "执照号"),
    "device_id": Kind("number", "personal", "device number", "设备号"),
    "reference": Kind("number", "internal", "reference number tied to a person", "编号"),
    "ip_address": Kind("number", "personal", "IP address", "IP 地址"),
    "mac_address": Kind("number", "personal", "MAC address", "MAC 地址"),
    "amount": Kind("number", "personal", "amount tied to a person", "金额"),
    "password": Kind("credential", "secret", "password", "密码"),
    "api_key": Kind("credential", "secret", "key or token of a service", "密钥"),
    "private_key": Kind("credential", "secret", "private key", "私钥"),
    "secret": Kind("credential", "secret", "secret", "机密"),
    "credential_url": Kind("credential", "secret", "address with a password", "含密码的地址"),
    "health_condition": Kind("health", "personal", "health condition", "病情"),
    "medication": Kind("health", "personal", "medication", "用药"),
    "procedure": Kind("health", "personal", "medical procedure or result", "诊疗"),
    "blood_type": Kind("health", "personal", "blood type", "血型"),
    "date_of_birth": Kind("time", "personal", "date of birth", "出生日期"),
    "age": Kind("time", "personal", "age", "年龄"),
    "date": Kind("time", "personal", "date tied to a person", "日期"),
    "timestamp": Kind("time", "internal", "time of an act of a person", "时间"),
    "gender": Kind("attribute", "personal", "gender", "性别"),
    "ethnicity": Kind("attribute", "personal", "ethnicity", "民族"),
    "nationality": Kind("attribute", "personal", "nationality", "国籍"),
    "religion": Kind("attribute", "personal", "religion", "宗教"),
    "politics": Kind("attribute", "personal", "political affiliation", "政治面貌"),
    "orientation": Kind("attribute", "personal", "sexual orientation", "性取向"),
    "marital_status": Kind("attribute", "personal", "marital status", "婚姻状况"),
    "criminal_record": Kind("attribute", "personal", "criminal record", "犯罪记录"),
    "biometric": Kind("attribute", "secret", "biometric identifier", "生物特征"),
    "custom": Kind("attribute", "secret", "what the user named private", "自定义"),
}
