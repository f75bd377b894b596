<?php
// Publishes with Symfony's component Mercure, as Debian packages it.
//
//     mercure_symfony.php HUB KEY TOPIC DATA
//
// JSON: the id that the hub gave. The component makes no HS256 token without lcobucci/jwt, which Debian
// has not; its interface for tokens takes any provider.

require '/usr/share/php/Symfony/Component/Mercure/autoload.php';
require '/usr/share/php/Symfony/Component/HttpClient/autoload.php';

use Symfony\Component\HttpClient\HttpClient;
use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Update;

[, $url, $key, $topic, $data] = $argv;

$encode = fn (string $bytes): string => rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
$message = $encode('{"alg":"HS256","typ":"JWT"}').'.'.$encode(json_encode(['mercure' => ['publish' => ['*']]]));
$token = $message.'.'.$encode(hash_hmac('sha256', $message, $key, true));

$hub = new Hub($url, new StaticTokenProvider($token), null, null, HttpClient::create());
$update = new Update([$topic, "$topic/alternate"], $data, true, 'urn:symfony:1', 'note', 1000);
echo json_encode(['id' => $hub->publish($update)]);
